"""The base of this package's errors."""


class RoiAnonError(Exception):
    """Something from outside is wrong: data, a file, an engine, weights, a node; the message says
    what and where.

    The command line and the demo turn it into a line and an exit code; nodes count it.
    """
