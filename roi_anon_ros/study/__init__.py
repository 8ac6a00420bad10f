"""What anonymizing costs who trains on it: detectors trained on treated images.

The experiment of Hukkelås and Lindseth, arXiv 2306.05135. No ROS. Read ``config.py`` first;
``running.py`` puts the parts together. ``budgets.py`` is another experiment: codecs trained under
utility budgets, of arXiv 2504.14301.
"""

from roi_anon_ros.study.config import Config, read_config
from roi_anon_ros.study.running import run_study

__all__ = ["Config", "read_config", "run_study"]
