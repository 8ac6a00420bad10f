"""The ROS 2 nodes: parameters, QoS, messages in and out. The only room that imports rclpy."""
