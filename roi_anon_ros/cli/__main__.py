"""``python -m roi_anon_ros.cli``."""

from . import app

app()
