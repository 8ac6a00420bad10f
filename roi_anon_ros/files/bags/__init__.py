"""Recordings on disk: rosbag2 (SQLite) and MCAP, their descriptions and messages. No ROS."""
