from __future__ import annotations

import importlib
import sys
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: rclpy")
vision_msgs = pytest.importorskip("vision_msgs.msg", reason="needs vision_msgs: make env, or apt")
if not hasattr(vision_msgs, "Detection3DArray"):
    pytest.skip("needs vision_msgs with Detection3DArray: make env", allow_module_level=True)

from builtin_interfaces.msg import Duration  # noqa: E402
from geometry_msgs.msg import Pose, Vector3  # noqa: E402
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


@pytest.fixture
def rmf(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """rmf_obstacle_msgs.msg, or where it is not installed its fields that are used here."""
    try:
        return importlib.import_module("rmf_obstacle_msgs.msg")
    except ModuleNotFoundError:
        pass
    module = ModuleType("rmf_obstacle_msgs.msg")
    box = {"center": Pose, "size": Vector3}
    module.BoundingBox3D = make_message("BoundingBox3D", **box)
    obstacle = {"header": Header, "id": int, "source": str, "level_name": str}
    obstacle |= {"classification": str, "bbox": module.BoundingBox3D, "lifetime": Duration}
    module.Obstacle = make_message("Obstacle", **obstacle, action=int)
    module.Obstacle.ACTION_ADD = 1
    module.Obstacle.ACTION_DELETE = 2
    module.Obstacles = make_message("Obstacles", header=Header, obstacles=list)
    monkeypatch.setitem(sys.modules, "rmf_obstacle_msgs", ModuleType("rmf_obstacle_msgs"))
    monkeypatch.setitem(sys.modules, "rmf_obstacle_msgs.msg", module)
    return module


def make_message(name: str, **kinds: type) -> type:
    """A class whose fields are of one type each, as those of a message are."""

    class Message:
        def __init__(self, **values: object) -> None:
            for field, kind in kinds.items():
                setattr(self, field, values.pop(field) if field in values else kind())
            assert not values

        def __setattr__(self, field: str, value: object) -> None:
            assert type(value) is kinds[field], f"{name}.{field}: got {type(value)}"
            super().__setattr__(field, value)

    return Message


def test_obstacles_of_rmf_are_added_and_removed(rmf: ModuleType) -> None:
    header = Header(frame_id="site")
    told = messages.to_rmf([person()], [7], header, "/people", "L1", 2.0).obstacles
    assert [obstacle.action for obstacle in told] == [1, 2]
    assert [obstacle.id for obstacle in told] == [ID - 2**32, 7]
    assert {(o.header.frame_id, o.source, o.level_name) for o in told} == {
        ("site", "/people", "L1")
    }
    assert told[0].bbox.size.z == pytest.approx(1.7) and told[0].lifetime.sec == 2
    assert type(told[0].bbox) is rmf.BoundingBox3D  # not vision_msgs'


def test_people_list_has_velocities() -> None:
    pytest.importorskip("people_msgs.msg", reason="people_msgs is not installed")
    (told,) = messages.to_people_list([person()], Header(frame_id="site")).people
    assert told.name == "fedcba98" and told.velocity.y == -0.25
    assert told.reliability == pytest.approx(1 / (1 + np.exp(-3.0)))
