"""``python -m roi_anon_ros.cli``."""

from roi_anon_ros.cli import app

app()
