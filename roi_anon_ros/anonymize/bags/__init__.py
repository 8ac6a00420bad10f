"""Recordings: rosbag2 and MCAP with their images anonymized and all else as it was. No ROS."""

from roi_anon_ros.anonymize.bags.recording import Recording, anonymize_recording
from roi_anon_ros.anonymize.bags.ways import CodecWay, TreatmentWay

__all__ = ["CodecWay", "Recording", "TreatmentWay", "anonymize_recording"]
