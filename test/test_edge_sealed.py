"""What the edge node seals for key holders, over DDS."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
from ros_graph import RELIABLE, Probe, make_model  # first: it skips where there is no ROS

from gained_model import make_gained_model  # isort: skip
from test_edge_hiding import DARK, OK, WARN, WHITE, Edge  # isort: skip

from roi_anon_msgs.msg import SealedRegions
from roi_anon_ros.codec import Codec
from roi_anon_ros.seal import Opened, Opener, SealError
from roi_anon_ros.seal.keys import load_private_key, new_key, revoke_key
from roi_anon_ros.seal.pixels import code_pixels, decode_pixels

pytestmark = pytest.mark.ros

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
#: Seconds between stamps after which another segment begins, and the officers' folder is read anew.
NEXT_SEGMENT = 120


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sealed")
    make_gained_model(folder / "gained.safetensors")
    make_model(folder / "one_rate.safetensors")
    for name in ("a", "b", "stranger"):
        new_key(folder / "keys", name, None, NOW)
    officers = folder / "officers"
    officers.mkdir()
    for name in ("a", "b"):
        (officers / f"{name}.pub").write_bytes((folder / "keys" / f"{name}.pub").read_bytes())
    return folder


@pytest.fixture(scope="module")
def probe(folder: Path) -> Iterator[Probe]:
    with Probe(folder) as probe:
        probe.start_node(
            "edge",
            model=folder / "gained.safetensors",
            hold=0.0,
            officers=folder / "officers",
            officers_threshold=2,
            **{"qos_overrides./image_raw.subscription.reliability": "reliable"},
        )
        yield probe


@pytest.fixture(scope="module")
def edge(probe: Probe) -> Edge:
    return Edge(probe)


@pytest.fixture(scope="module")
def sealed(edge: Edge, probe: Probe) -> list[SealedRegions]:
    """What is sealed from now on."""
    parts = probe.listen(SealedRegions, "sealed", RELIABLE)
    probe.connect(lambda: edge.publish(DARK).header, parts)
    return parts


def make_opener(folder: Path, *names: str) -> Opener:
    return Opener([load_private_key(folder / "keys" / f"{name}.key", None) for name in names])


def stamp_ns(part: SealedRegions) -> int:
    return part.header.stamp.sec * 10**9 + part.header.stamp.nanosec


def send(edge: Edge, sealed: list[SealedRegions], image: np.ndarray) -> tuple[bytes, SealedRegions]:
    """The packet of an image, and its sealed part."""
    sealed.clear()
    edge.latents.clear()
    sent = edge.publish(image)
    (latent,) = edge.probe.wait_for(lambda: edge.latents, "the latent")
    (part,) = edge.probe.wait_for(lambda: sealed, "the sealed part")
    edge.latents.clear()
    assert latent.header == part.header == sent.header
    return latent.packet.tobytes(), part


def test_key_holders_get_back_what_was_painted_over(
    edge: Edge, sealed: list[SealedRegions], folder: Path
) -> None:
    packet, part = send(edge, sealed, WHITE)
    codec = Codec.load(str(folder / "gained.safetensors"))
    decoded = codec.decode(packet)
    opener = make_opener(folder, "a", "b")
    opened: Opened = opener.open_part(part.sealed.tobytes(), packet, stamp_ns(part))
    cells = decoded.regions.cells
    assert cells.any() and np.array_equal(opened.cells, cells)
    expected = decode_pixels(code_pixels(WHITE, cells, 90), int(cells.sum()))
    assert np.array_equal(opened.pixels, expected)
    restored = opened.paste_into(decoded.image)
    painted = decoded.regions.mask(96, 64)
    assert np.array_equal(restored[~painted], decoded.image[~painted])
    error = np.abs(restored[painted].astype(int) - WHITE[painted])
    assert error.mean() < 10, "the hidden pixels are back"
    assert edge.report()["level"] == OK


def test_nobody_else_does(edge: Edge, sealed: list[SealedRegions], folder: Path) -> None:
    packet, part = send(edge, sealed, WHITE)
    data = part.sealed.tobytes()
    for names, reason in ((("stranger",), "key"), (("a",), "threshold")):
        with pytest.raises(SealError) as refused:
            make_opener(folder, *names).open_part(data, packet, stamp_ns(part))
        assert refused.value.reason == reason
    opener = make_opener(folder, "a", "b")
    with pytest.raises(SealError) as refused:
        opener.open_part(data, packet, stamp_ns(part) + 1)
    assert refused.value.reason == "stamp"
    other, _ = send(edge, sealed, DARK)
    with pytest.raises(SealError) as refused:
        opener.open_part(data, other, stamp_ns(part))
    assert refused.value.reason == "packet"


def test_where_sealing_fails_the_latent_goes_out_without(
    edge: Edge, sealed: list[SealedRegions], folder: Path
) -> None:
    """A revoked key counts from the next segment on; with one officer of two left, none begins."""
    revoke_key(folder / "officers", "b", NOW)
    send(edge, sealed, WHITE)
    sealed.clear()
    late = edge.publish(WHITE, later=NEXT_SEGMENT)
    (latent,) = edge.probe.wait_for(lambda: edge.latents, "the latent")
    assert latent.header == late.header and not sealed
    report = edge.probe.wait_for(lambda: _warned(edge), "the warning")
    assert "not sealed: officers: threshold: got 2, must be from 1 to 1" in report["message"]
    assert float(report["share not sealed"]) > 0


def _warned(edge: Edge) -> dict[str, str] | None:
    edge.publish(WHITE, later=NEXT_SEGMENT)
    report = edge.report()
    return report if report["level"] == WARN and "sealed" in report["message"] else None


def test_what_does_not_paint_cannot_be_sealed(edge: Edge, folder: Path) -> None:
    edge.stop()
    assert edge.set(model=str(folder / "one_rate.safetensors")).successful
    assert not edge.probe.transit("edge", "configure")
    assert "officers: model tiny does not paint" in edge.report()["message"]
