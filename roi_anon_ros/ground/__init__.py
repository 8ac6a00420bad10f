"""Where on the ground people are: cameras, positions, tracks, twin. No ROS, no torch.

`floor` and `cameras` are geometry, `locate` turns boxes into positions with covariances, `tracks`
makes one set of persons of many cameras. `people` puts them together for a site that `site` reads;
`cloud` and `twin` are what leaves: points for a robot, JSON for a digital twin. `zone` says how
large a robot's stop zone must be, `calibrate` finds where a camera hangs.
"""
