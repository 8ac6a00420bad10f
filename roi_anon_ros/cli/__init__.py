"""``roi-anon``: what the nodes do, without ROS, on files, folders and videos.

Exit codes: 0 all went well; 1 something was reported and skipped, the rest is done; 2 the command
makes no sense as it was given; 130 interrupted. Reports and progress go to stderr, results to
stdout.
"""

from roi_anon_ros.cli import (
    anonymize,
    bag,
    budgets,
    comparison,
    decoding,
    encoding,
    evaluation,
    exporting,
    ground,
    heads,
    identification,
    information,
    seal,
    study,
    subsets,
    training,
    watch,
)
from roi_anon_ros.cli.run import app

__all__ = [
    "app",
    "anonymize",
    "bag",
    "budgets",
    "comparison",
    "decoding",
    "encoding",
    "evaluation",
    "exporting",
    "ground",
    "heads",
    "identification",
    "information",
    "seal",
    "study",
    "subsets",
    "training",
    "watch",
]
