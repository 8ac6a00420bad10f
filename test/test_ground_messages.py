from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: rclpy")
vision_msgs = pytest.importorskip("vision_msgs.msg", reason="needs vision_msgs: make env, or apt")
if not hasattr(vision_msgs, "Detection3DArray"):
    pytest.skip("needs vision_msgs with Detection3DArray: make env", allow_module_level=True)

from std_msgs.msg import Header  # noqa: E402

from roi_anon_ros.ground.tracks import Track  # noqa: E402
from roi_anon_ros.nodes.base import ground_messages as messages  # noqa: E402

pytestmark = pytest.mark.ros

#: One whose id is too large for int32.
ID = 0xFEDCBA98


def person() -> messages.Person:
    state = np.array([1.0, 2.0, 0.5, -0.25])
    track = Track((0.0, "north", 0), state, np.eye(4) * 0.04, 3.0, 0.0, {})
    return messages.Person(ID, track, 0.6)


def detections(*boxes: tuple[float, float, float, float]) -> vision_msgs.Detection2DArray:
    found = vision_msgs.Detection2DArray()
    for x, y, width, height in boxes:
        detection = vision_msgs.Detection2D()
        detection.bbox.center.position.x = x
        detection.bbox.center.position.y = y
        detection.bbox.size_x = width
        detection.bbox.size_y = height
        found.detections.append(detection)
    return found


def test_boxes_are_corners_and_every_detection_counts() -> None:
    boxes = messages.to_boxes(detections((10.0, 20.0, 4.0, 8.0)))
    assert boxes.tolist() == [[8.0, 16.0, 12.0, 24.0, 1.0]]
    assert messages.to_boxes(detections()).shape == (0, 5)


@pytest.mark.parametrize("box", [(np.nan, 0.0, 1.0, 1.0), (0.0, 0.0, -1.0, 1.0)])
def test_boxes_without_sense_are_an_error(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(ValueError, match="detections"):
        messages.to_boxes(detections(box))


def test_markers_have_a_lifetime_and_fit_into_int32() -> None:
    markers = messages.to_markers([person()], [7], Header(frame_id="site"), 2.5).markers
    assert [marker.action for marker in markers] == [0, 0, 2, 2]
    assert markers[0].id == ID - 2**32 and markers[2].id == 7
    assert (markers[0].lifetime.sec, markers[0].lifetime.nanosec) == (2, 500_000_000)
    place = markers[0].pose.position
    assert [place.x, place.y, place.z] == pytest.approx([1.0, 2.0, 0.6 + 0.85])
    ends = markers[1].points
    assert [ends[1].x - ends[0].x, ends[1].y - ends[0].y] == pytest.approx([0.5, -0.25])


def test_obstacles_of_rmf_are_added_and_removed() -> None:
    pytest.importorskip("rmf_obstacle_msgs.msg", reason="rmf_obstacle_msgs is not installed")
    header = Header(frame_id="site")
    told = messages.to_rmf([person()], [7], header, "/people", "L1", 2.0).obstacles
    assert [obstacle.action for obstacle in told] == [1, 2]
    assert [obstacle.id for obstacle in told] == [ID - 2**32, 7]
    assert {(o.header.frame_id, o.source, o.level_name) for o in told} == {
        ("site", "/people", "L1")
    }
    assert told[0].bbox.size.z == pytest.approx(1.7) and told[0].lifetime.sec == 2


def test_people_list_has_velocities() -> None:
    pytest.importorskip("people_msgs.msg", reason="people_msgs is not installed")
    (told,) = messages.to_people_list([person()], Header(frame_id="site")).people
    assert told.name == "fedcba98" and told.velocity.y == -0.25
    assert told.reliability == pytest.approx(1 / (1 + np.exp(-3.0)))
