"""Readers of annotated sets, each as it is published, and what becomes of damaged ones; dividing
them.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from roi_anon_ros.boxes import at_least, clip_boxes
from roi_anon_ros.datasets import (
    KINDS,
    Boxes,
    Reading,
    Record,
    for_training,
    heads_of,
    read_coco,
    read_crowdhuman,
    read_set,
    read_voc,
    read_yolo,
    split,
    spread,
    without_overlap,
    write_split,
)

W, H = 160, 120

#: Kind, x1, y1, x2, y2 in whole pixels inside the image.
Rows = list[tuple[str, int, int, int, int]]


def boxes(*rows: list[float], ignore: bool = False) -> Boxes:
    return Boxes(np.array(rows, np.float32).reshape(-1, 4), np.full(len(rows), ignore))


def record(path: str, annotated: tuple[str, ...] = ("head",)) -> Record:
    return Record(Path(path), W, H, boxes(), boxes(), boxes(), frozenset(annotated))


def write_image(path: Path, size: tuple[int, int] = (W, H)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 120, 60)).save(path)
    return path


def write_json(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def coco(rows_of: dict[str, Rows], names: tuple[str, ...] = KINDS, **more: object) -> dict:
    """A COCO JSON; ``more`` goes into each image."""
    number = {name: 7 * i for i, name in enumerate(names, 1)}
    images, annotations = [], []
    for name, rows in rows_of.items():
        images.append({"id": f"#{name}", "file_name": name, "width": W, "height": H} | more)
        for kind, x1, y1, x2, y2 in rows:
            box = {
                "image_id": f"#{name}",
                "category_id": number[kind],
                "bbox": [x1, y1, x2 - x1, y2 - y1],
            }
            annotations.append(box)
    categories = [{"id": i, "name": name} for name, i in number.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def voc(rows: Rows, filename: str, difficult: int = 0, size: tuple[int, int] = (W, H)) -> str:
    objects = "".join(
        f"<object><name>{kind}</name><difficult>{difficult}</difficult>"
        f"<bndbox><xmin>{x1 + 1}</xmin>"
        f"<ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox>"
        f"<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part></object>"
        for kind, x1, y1, x2, y2 in rows
    )
    size_of = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    return f"<annotation><filename>{filename}</filename>{size_of}{objects}</annotation>"


def yolo(rows: Rows, names: tuple[str, ...] = KINDS) -> str:
    return "".join(
        f"{names.index(kind)} {(x1 + x2) / 2 / W} {(y1 + y2) / 2 / H} "
        f"{(x2 - x1) / W} {(y2 - y1) / H}\n"
        for kind, x1, y1, x2, y2 in rows
    )


def write_set(folder: Path, form: str, images: dict[str, Rows]) -> Path:
    """Write a set in one of the forms; the images' names come without suffix. Return what to
    read.
    """
    for name in images:
        write_image(
            folder
            / {"crowdhuman": "Images", "voc": "JPEGImages"}.get(form, "images")
            / f"{name}.jpg"
        )
    if form == "coco":
        return write_json(
            folder / "images.json", coco({f"{name}.jpg": rows for name, rows in images.items()})
        )
    if form == "crowdhuman":
        lines = []
        for name, rows in images.items():
            heads = iter([row[1:] for row in rows if row[0] == "head"])
            gtboxes = []
            for kind, x1, y1, x2, y2 in rows:
                if kind == "person":
                    box = {
                        "tag": "person",
                        "vbox": [x1, y1, x2 - x1, y2 - y1],
                        "fbox": [0, 0, 1, 1],
                        "extra": {},
                    }
                    head = next(heads, None)
                    if head:
                        box["hbox"] = [head[0], head[1], head[2] - head[0], head[3] - head[1]]
                    gtboxes.append(box)
            lines.append(json.dumps({"ID": name, "gtboxes": gtboxes}))
        (folder / "annotation_train.odgt").write_text("\n".join(lines) + "\n")
        return folder / "annotation_train.odgt"
    place = folder / {"voc": "Annotations", "yolo": "labels"}[form]
    place.mkdir(parents=True, exist_ok=True)
    for name, rows in images.items():
        if form == "voc":
            (place / f"{name}.xml").write_text(voc(rows, f"{name}.jpg"))
        else:
            (place / f"{name}.txt").write_text(yolo(rows))
    if form == "yolo":
        (folder / "data.yaml").write_text(yaml.safe_dump({"names": list(KINDS)}))
    return folder


READERS: dict[str, Callable[..., Reading]] = {
    "coco": read_coco,
    "crowdhuman": read_crowdhuman,
    "yolo": read_yolo,
    "voc": read_voc,
}


@st.composite
def rows(draw: st.DrawFn) -> Rows:
    found: Rows = []
    for _ in range(draw(st.integers(0, 4))):
        for kind in ("person", "head"):
            x1, y1 = draw(st.integers(0, W - 2)), draw(st.integers(0, H - 2))
            found.append((kind, x1, y1, draw(st.integers(x1 + 1, W)), draw(st.integers(y1 + 1, H))))
    return found


@pytest.mark.parametrize("form", READERS)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_what_is_in_a_set_is_read_from_it(form: str, data: st.DataObject) -> None:
    wanted = data.draw(st.dictionaries(st.sampled_from(["a", "b,1f", "c d"]), rows(), min_size=1))
    if form == "voc":  # it has no list of classes: they are those of its objects
        wanted["last"] = [("person", 1, 2, 30, 40), ("head", 1, 2, 10, 12), ("face", 2, 3, 9, 10)]
    with tempfile.TemporaryDirectory() as folder:
        path = write_set(Path(folder), form, wanted)
        reading = READERS[form](path)
        assert [r.path for r in read_set(path).records] == [r.path for r in reading.records]
    assert reading.problems == [] and reading.clipped == reading.dropped == 0
    assert {r.path.stem for r in reading.records} == set(wanted)
    for r in reading.records:
        assert (r.width, r.height) == (W, H)
        assert r.annotated == (
            {"person", "head"} if form == "crowdhuman" else {"person", "head", "face"}
        )
        for kind in ("person", "head"):
            got = getattr(r, f"{kind}s")
            expected = [row[1:] for row in wanted[r.path.stem] if row[0] == kind]
            np.testing.assert_allclose(got.xyxy, np.array(expected).reshape(-1, 4), atol=0.01)
            assert got.xyxy.dtype == np.float32 and got.ignore.dtype == bool
            assert len(got.ignore) == len(got.xyxy) and not got.ignore.any()


def test_crowdhuman_as_published(tmp_path: Path) -> None:
    def person(vbox: list, **more: object) -> dict:
        return {
            "tag": "person",
            "fbox": [0, 0, 99, 99],
            "vbox": vbox,
            "extra": {"box_id": 0, "occ": 0},
        } | more

    lines = [
        {
            "ID": "273271,1a0d",
            "gtboxes": [
                person(
                    [10, 20, 30, 40],
                    hbox=[12, 20, 8, 9],
                    head_attr={"ignore": 0, "occ": 0, "unsure": 0},
                ),
                person([50, 20, 30, 40], hbox=[52, 20, 8, 9], head_attr={"ignore": 1}),
                person([90, 20, 30, 40], hbox=[92, 20, 8, 9], extra={"ignore": 1}),
                person([-5, 60, 30, 90]),
                {
                    "tag": "mask",
                    "vbox": [100, 80, 50, 30],
                    "hbox": [100, 80, 5, 5],
                    "extra": {"ignore": 1},
                },
            ],
        },
        {"ID": "lost", "gtboxes": []},
        {"ID": "273272,2b", "gtboxes": [person([1, 2, 3])]},
        {"ID": "273273,3c"},
        {"ID": "273274,4d", "gtboxes": []},
    ]
    file = tmp_path / "annotation_train.odgt"
    file.write_text("\n".join(map(json.dumps, lines)) + '\n\n{"ID": "torn", "gtb')
    for part, name in (
        ("01", "273271,1a0d"),
        ("01", "273272,2b"),
        ("02", "273273,3c"),
        ("03", "273274,4d"),
    ):
        write_image(tmp_path / f"CrowdHuman_train{part}" / "Images" / f"{name}.jpg")
    for reading in (read_set(file), read_set(file, tmp_path)):
        first, second = reading.records
        assert first.persons.xyxy.tolist() == [
            [10, 20, 40, 60],
            [50, 20, 80, 60],
            [90, 20, 120, 60],
            [0, 60, 25, 120],
            [100, 80, 150, 110],
        ]
        assert first.persons.ignore.tolist() == [False, False, True, False, True]
        assert first.heads.xyxy[:, 0].tolist() == [12, 52, 92]
        assert first.heads.ignore.tolist() == [False, True, True]
        assert first.annotated == second.annotated == {"person", "head"}
        assert second.path.name == "273274,4d.jpg" and len(second.persons.xyxy) == 0
        assert (reading.clipped, reading.dropped) == (1, 0)
        lost, short, bare, torn = reading.problems
        assert "lost.jpg: no such file" in lost
        assert "273272,2b.jpg: box" in short and "four finite numbers" in short
        assert "273273,3c.jpg: lacks 'gtboxes'" in bare
        assert f"{file}: line 7: " in torn


def test_coco_counts_what_it_clips_and_drops(tmp_path: Path) -> None:
    rows = [
        ("person", -10, 10, 40, 200),
        ("person", 170, 10, 190, 20),
        ("head", 165, 4, 170, 9),
        ("head", 5, 5, 15, 15),
    ]
    write_image(tmp_path / "sub" / "a.png")
    reading = read_coco(write_json(tmp_path / "all.json", coco({"sub/a.png": rows})))
    (a,) = reading.records
    assert a.path == tmp_path / "sub" / "a.png"
    assert a.persons.xyxy.tolist() == [[0, 10, 40, 120]]
    assert a.heads.xyxy.tolist() == [[5, 5, 15, 15]]
    assert (reading.clipped, reading.dropped, reading.problems) == (1, 2, [])


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("head", "helmet"), [0, 1]),
        (("head", "Hardhat", "no helmet"), [-1, 1, 0]),
        (("head", "face"), [-1, -1]),
    ],
)
def test_the_classes_tell_who_wears_a_helmet(
    tmp_path: Path, names: tuple[str, ...], told: list[int]
) -> None:
    rows = [(name, 10 + 20 * i, 10, 25 + 20 * i, 30) for i, name in enumerate(names)]
    rows.append((names[0], 170, 4, 170.5, 9))  # dropped: too narrow
    write_image(tmp_path / "a.png")
    content = coco({"a.png": rows}, names)
    (a,) = read_coco(write_json(tmp_path / "all.json", content)).records
    assert len(a.heads.xyxy) == len(a.helmets)
    assert a.helmets.tolist() == told[: len(a.helmets)]


def test_coco_ignores_crowds(tmp_path: Path) -> None:
    content = coco(
        {"a.png": [("person", 1, 1, 9, 9), ("person", 2, 2, 9, 9), ("head", 3, 3, 9, 9)]}
    )
    content["annotations"][0]["iscrowd"] = 1
    content["annotations"][2]["ignore"] = 1
    write_image(tmp_path / "all" / "a.png")
    (a,) = read_coco(write_json(tmp_path / "all.json", content)).records
    assert a.persons.ignore.tolist() == [True, False]
    assert a.heads.ignore.tolist() == [True]


@pytest.mark.parametrize(
    ("names", "stated", "kinds", "annotated"),
    [
        (("person", "head"), None, "person", {"person", "head"}),
        (("person", "dog"), None, "person", {"person"}),
        (("Pedestrians", "Faces"), None, "", {"person", "face", "head"}),
        (KINDS, ["face"], "person", {"person", "face", "head"}),  # persons by a detector
        (KINDS, ["face"], "", {"face", "head"}),
        (KINDS, ["person"], "person", {"person"}),
        (KINDS, [], "", set()),
        (KINDS, [], "head", {"head"}),
        (("Person", "helmet", "no_helmet"), None, "", {"person", "head"}),
        (("person", "head", "helmet"), None, "helmet", {"person", "head"}),
        (("person", "Hardhat", "vest"), None, "Hardhat", {"person"}),  # bare heads are not in it
        (("hat", "person"), None, "hat", {"person"}),
    ],
)
def test_what_counts_as_annotated(
    tmp_path: Path, names: tuple[str, ...], stated: list | None, kinds: str, annotated: set
) -> None:
    rows = [(kind, 10, 10, 30, 40) for kind in kinds.split()]
    more = {} if stated is None else {"annotated": stated}
    write_image(tmp_path / "a.png")
    (a,) = read_coco(
        write_json(tmp_path / "all.json", coco({"a.png": rows}, names, **more))
    ).records
    assert a.annotated == annotated
    assert len(a.heads.xyxy) == len(
        [kind for kind in kinds.split() if kind in ("head", "helmet", "Hardhat")]
    )


def test_a_head_is_grown_from_each_face(tmp_path: Path) -> None:
    rows = [("face", 40, 50, 60, 90), ("face", 0, 0, 20, 20)]
    content = coco({"a.png": rows}, ("face",))
    content["annotations"][1]["ignore"] = 1
    write_image(tmp_path / "a.png")
    (a,) = read_coco(write_json(tmp_path / "all.json", content)).records
    np.testing.assert_allclose(a.heads.xyxy, [[37, 36, 63, 94], [0, 0, 23, 22]], atol=1e-5)
    assert a.heads.ignore.tolist() == a.faces.ignore.tolist() == [False, True]
    (b,) = read_coco(
        write_json(tmp_path / "all.json", coco({"a.png": [*rows, ("head", 1, 1, 9, 9)]}))
    ).records
    assert b.heads.xyxy.tolist() == [[1, 1, 9, 9]]


def test_grown_heads_are_those_of_the_real_set(shared_dir: Path, tmp_path: Path) -> None:
    content = json.loads((shared_dir / "people" / "val.json").read_text())
    given = read_coco(shared_dir / "people" / "val.json").records
    content["annotations"] = [a for a in content["annotations"] if a["origin"] != "derived"]
    grown = read_coco(
        write_json(tmp_path / "a.json", content), shared_dir / "people" / "val"
    ).records
    compared = 0
    for a, b in zip(given, grown, strict=True):
        assert a.path == b.path and a.annotated == b.annotated
        np.testing.assert_allclose(a.heads.xyxy, b.heads.xyxy, atol=0.3)
        assert np.array_equal(a.heads.ignore, b.heads.ignore)
        compared += len(a.heads.xyxy)
    assert compared > 1000


def test_a_damaged_annotation_costs_its_image_alone(tmp_path: Path) -> None:
    rows = [("head", 1, 1, 9, 9)]
    content = coco(
        {
            name: rows
            for name in ("good.png", "nan.png", "kind.png", "size.png", "gone.png", "text.png")
        }
    )
    content["annotations"][1]["bbox"][0] = float("nan")
    content["annotations"][2]["category_id"] = 99
    content["images"][3]["width"] = H
    content["annotations"] += [{"bbox": [1, 2, 3, 4]}, {"image_id": "nobody"}, 7]
    content["images"] += [{"id": 1}]
    for name in ("good.png", "nan.png", "kind.png", "size.png"):
        write_image(tmp_path / name)
    (tmp_path / "text.png").write_text("no image")
    reading = read_coco(write_json(tmp_path / "all.json", content))
    assert [r.path.name for r in reading.records] == ["good.png"]
    text = "\n".join(reading.problems)
    for problem in (
        "all.json: annotations[6]: lacks 'image_id'",
        "all.json: annotations[8]: ",
        "nan.png: box: [nan, ",
        "kind.png: lacks '99'",
        f"size.png: has {W}x{H} pixels, its annotation says {H}x{H}",
        "gone.png: no such file",
        "text.png: not a readable image",
        "images[6]: lacks 'file_name'",
        "image_id nobody",
    ):
        assert problem in text
    assert len(reading.problems) == 9


@pytest.mark.parametrize("box", [[60, 40, -20, 10], [60, 40, 20, -10], [60, 40, 0, 10]])
def test_a_box_without_extent_costs_its_image(tmp_path: Path, box: list[int]) -> None:
    content = coco({"a.png": [("head", 1, 1, 9, 9)], "b.png": [("head", 1, 1, 9, 9)]})
    content["annotations"][0]["bbox"] = box
    for name in ("a.png", "b.png"):
        write_image(tmp_path / name)
    reading = read_coco(write_json(tmp_path / "all.json", content))
    assert [r.path.name for r in reading.records] == ["b.png"]
    assert len(reading.problems) == 1 and "a.png: box: got x from 60" in reading.problems[0]


def test_exchanged_corners_cost_their_image(tmp_path: Path) -> None:
    for name, left, right in (("a", "3e1", "10"), ("b", "10", "3e1")):
        write_image(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.xml").write_text(
            f"<annotation><filename>{name}.png</filename><object><name>head</name><bndbox>"
            f"<xmin>{left}</xmin><ymin>20</ymin><xmax>{right}</xmax><ymax>50</ymax></bndbox>"
            "</object></annotation>"
        )
    reading = read_voc(tmp_path)
    assert [r.path.name for r in reading.records] == ["b.png"]
    assert reading.records[0].heads.xyxy.tolist() == [[9, 19, 30, 50]]
    assert len(reading.problems) == 1 and "a.xml: box: got x from 29" in reading.problems[0]


@pytest.mark.parametrize("kind", [str, float])
def test_coco_numbers_may_be_strings(tmp_path: Path, kind: type) -> None:
    content = coco({"a.png": [("head", 3, 4, 9, 10)]}, ("person", "head"))
    content["images"][0]["id"] = 1
    content["images"][0]["width"] = kind(W)
    (annotation,) = content["annotations"]
    annotation["image_id"] = kind(1) if kind is float else "1"
    annotation["category_id"] = kind(annotation["category_id"])
    annotation["bbox"] = [kind(side) for side in annotation["bbox"]]
    annotation["iscrowd"] = kind(0)
    write_image(tmp_path / "a.png")
    reading = read_coco(write_json(tmp_path / "all.json", content))
    assert reading.problems == []
    assert reading.records[0].heads.xyxy.tolist() == [[3, 4, 9, 10]]
    assert not reading.records[0].heads.ignore.any()


@pytest.mark.parametrize(
    ("shape", "more"),
    [([3, 2], "0.48 0.28 0.52 0.28 0.5 0.33"), ([2, 3], "0.48 0.28 2 0.52 0.28 1"), (None, "0.9")],
)
def test_yolo_keypoints_and_scores_are_no_polygon(
    tmp_path: Path, shape: list[int] | None, more: str
) -> None:
    """After the box come keypoints, or a detector's score: the box alone is the head's."""
    told = {"names": ["person", "head"]} | ({"kpt_shape": shape} if shape else {})
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(told))
    write_image(tmp_path / "images" / "a.png", (200, 100))
    write_image(tmp_path / "images" / "b.png", (200, 100))
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text(f"1 0.5 0.3 0.1 0.1 {more}\n")
    (tmp_path / "labels" / "b.txt").write_text(f"1 0.5 0.3 0.1 0.1 {more} 0.5 0.5\n")
    reading = read_yolo(tmp_path)
    assert [r.path.name for r in reading.records] == ["a.png"]
    assert reading.records[0].heads.xyxy.round(3).tolist() == [[90, 25, 110, 35]]
    assert reading.records[0].by_detector == (frozenset() if shape else {"head"})
    assert len(reading.problems) == 1 and "b.txt: line 1: " in reading.problems[0]


def test_an_image_on_its_side_has_the_size_it_is_shown_at(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (H, W)).save(tmp_path / "a.jpg", exif=exif)
    Image.new("RGB", (W, H)).save(tmp_path / "b.jpg", exif=b"Exif\0\0damaged")
    reading = read_coco(write_json(tmp_path / "all.json", coco({"a.jpg": [], "b.jpg": []})))
    assert [(r.width, r.height) for r in reading.records] == [(W, H)] * 2


def test_yolo_as_roboflow_exports_it(tmp_path: Path) -> None:
    for part in ("train", "valid"):
        write_image(tmp_path / part / "images" / "a_jpg.rf.1f2e.jpg")
        (tmp_path / part / "labels").mkdir()
        (tmp_path / part / "labels" / "a_jpg.rf.1f2e.txt").write_text("0 0.5 0.5 0.25 0.5\n")
    told = {
        "train": "../train/images",
        "val": "../valid/images",
        "test": "../test/images",
        "nc": 1,
        "names": ["head"],
    }
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(told))
    for path in (tmp_path, tmp_path / "data.yaml"):
        reading = read_set(path)
        assert [r.path.parts[-3] for r in reading.records] == ["train", "valid"]
        assert reading.records[0].heads.xyxy.tolist() == [[60, 30, 100, 90]]
        assert len(reading.problems) == 1 and "../test/images: no such" in reading.problems[0]
    (only,) = read_set(tmp_path / "data.yaml", tmp_path / "valid").records
    assert only.path.parts[-3] == "valid"


def test_yolo_as_ultralytics_publishes_it(tmp_path: Path) -> None:
    names = {0: "helmet", 1: "gloves", 6: "Person", 7: "no_helmet"}
    told = {"path": "set", "train": "train.txt", "val": ["images/val"], "names": names}
    (tmp_path / "set").mkdir()
    (tmp_path / "dataset.yaml").write_text(yaml.safe_dump(told))
    (tmp_path / "set" / "train.txt").write_text(
        "./images/train/a.jpg\nimages/train/empty.jpg\n\nimages/train/gone.jpg"
    )
    text = {
        "train/a": "6 0.5 0.5 1.0 1.0\n0 0.25 0.25 0.75 0.25 0.75 0.5\n1 0.1 0.1 0.1 0.1\n",
        "train/empty": "",
        "val/wild": "0 80 60 20 20\n",
        "val/five": "0 0.1 0.1 0.1\n",
        "val/other": "3 0.1 0.1 0.1 0.1\n",
        "val/words": "head 0.1 0.1 0.1 0.1\n",
    }
    for name, lines in text.items():
        write_image(tmp_path / "set" / "images" / f"{name}.jpg")
        labels = tmp_path / "set" / "labels" / f"{name}.txt"
        labels.parent.mkdir(parents=True, exist_ok=True)
        labels.write_text(lines)
    write_image(tmp_path / "set" / "images" / "val" / "unlabelled.jpg")
    reading = read_set(tmp_path)
    records = {r.path.stem: r for r in reading.records}
    assert set(records) == {"a", "empty", "unlabelled"}
    assert records["a"].persons.xyxy.tolist() == [[0, 0, W, H]]
    assert records["a"].heads.xyxy.tolist() == [[40, 30, 120, 60]]  # the polygon's
    assert records["a"].annotated == records["empty"].annotated == {"person", "head"}
    assert records["unlabelled"].annotated == frozenset()
    problems = "\n".join(reading.problems)
    for problem in (
        "gone.jpg: no such file",
        "wild.txt: line 1: '0 80 60 20 20': must be within 0 to 1",
        "five.txt: line 1: ",
        "other.txt: line 1: '3 0.1 0.1 0.1 0.1': no class",
        "words.txt: line 1: ",
    ):
        assert problem in problems
    assert len(reading.problems) == 5


def test_voc_layouts(tmp_path: Path) -> None:
    rows = [("person", 0, 0, 50, 100), ("head", 10, 0, 30, 20), ("dog", 1, 1, 5, 5)]
    beside = tmp_path / "beside"  # as Roboflow exports it
    write_image(beside / "a.jpg")
    (beside / "a.xml").write_text(voc(rows, "a.jpg", difficult=1))
    (a,) = read_set(beside).records
    assert a.persons.xyxy.tolist() == [[0, 0, 50, 100]] and a.persons.ignore.tolist() == [True]
    assert a.heads.xyxy.tolist() == [[10, 0, 30, 20]]

    small = tmp_path / "small"  # lower case, a name without suffix, no size, and damaged files
    write_image(small / "images" / "b.png")
    (small / "annotations").mkdir()
    (small / "annotations" / "b.xml").write_text(voc(rows, "b", size=(0, 0)))
    (small / "annotations" / "c.xml").write_text(voc(rows, "c.png"))
    (small / "annotations" / "d.xml").write_text("<annotation><object>")
    (small / "annotations" / "e.xml").write_text(
        voc(rows, "e.png").replace("<xmin>1</xmin><ymin>", "<ymin>")
    )
    (small / "annotations" / "f.xml").write_text(voc(rows, "b.png", size=(H, W)))
    for path, images in ((small, None), (small / "annotations", None), (small, small / "images")):
        reading = read_set(path, images)
        assert [r.path.name for r in reading.records] == ["b.png"]
        assert [p.split(": ")[0] for p in reading.problems] == [
            str(small / "annotations" / f"{x}.xml") for x in "dcef"
        ]
        assert "c.png: no such file" in reading.problems[1]
        assert f"its annotation says {H}x{W}" in reading.problems[3]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "[]", "a.json: no COCO JSON"),
        ("a.json", '{"images": [', "a.json: no COCO JSON"),
        (
            "a.json",
            '{"images": [], "annotations": [], "categories": []}',
            "categories: none is a person",
        ),
        ("a.json", json.dumps(coco({})), "no image can be read; there is none in it"),
        (
            "a.json",
            json.dumps(coco({"lost.png": []})),
            "no image can be read; .*lost.png: no such file",
        ),
        ("a.odgt", "\n", "a.odgt: no image can be read"),
        ("a.odgt", "{", "a.odgt: line 1: "),
        ("missing.odgt", None, "missing.odgt: No such file"),
        ("data.yaml", "names: [cat]", "names: none is a person, head or face: cat"),
        ("data.yaml", "- 1", "data.yaml: no YOLO set"),
        ("data.yaml", "names: [head]\ntrain: lost", "lost: no such file or folder"),
        ("Annotations/a.xml", "<annotation/>", "objects: none is a person"),
        ("a.txt", "", "a.txt: neither .odgt"),
        ("missing", None, "missing: neither .odgt"),
    ],
)
def test_a_set_of_which_nothing_is_left_is_refused(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    if content is not None:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        read_set(tmp_path if "/" in name else tmp_path / name)
    assert str(tmp_path) in str(error.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.sampled_from(["a.png", "head", "tag", 1, -1]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["id", "name", "bbox", "ID"]), inner)
    ),
    max_leaves=6,
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    images=st.lists(
        JSON | st.fixed_dictionaries({"id": JSON, "file_name": JSON}, optional={"annotated": JSON})
    ),
    boxes=st.lists(
        JSON | st.fixed_dictionaries({"image_id": JSON, "category_id": JSON, "bbox": JSON})
    ),
    categories=JSON | st.just([{"id": 1, "name": "head"}]),
    people=st.lists(
        JSON | st.fixed_dictionaries({"tag": JSON, "vbox": JSON, "hbox": JSON, "extra": JSON})
    ),
)
def test_whatever_is_in_a_file_is_read_or_refused(
    images: list, boxes: list, categories: object, people: list
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_image(folder / "a.png"), write_image(folder / "a.jpg")
        content = {"images": images, "annotations": boxes, "categories": categories}
        for file in (
            write_json(folder / "a.json", content),
            write_json(folder / "a.odgt", {"ID": "a", "gtboxes": people}),
            write_json(folder / "data.yaml", {"names": categories, "train": images}),
        ):
            try:
                reading = read_set(file)
            except ValueError as error:
                assert str(file) in str(error)
            else:
                assert reading.records


@settings(deadline=None)
@given(
    box=st.tuples(*[st.floats(-1e4, 1e4, width=32)] * 4).map(lambda b: np.array([b], np.float32)),
    width=st.integers(1, 8192),
    height=st.integers(1, 8192),
)
def test_boxes_stay_in_the_image(box: np.ndarray, width: int, height: int) -> None:
    clipped = clip_boxes(box, width, height)
    assert (clipped >= 0).all() and (clipped <= [width, height, width, height]).all()
    assert np.array_equal(clip_boxes(clipped, width, height), clipped)
    if at_least(clipped, 1)[0]:
        head = heads_of(Boxes(clipped, np.zeros(1, bool)), width, height).xyxy
        assert (head[:, :2] <= clipped[:, :2]).all() and (head[:, 2:] >= clipped[:, 2:]).all()
        assert (clip_boxes(head, width, height) == head).all()


def test_images_without_annotated_heads_are_not_for_training() -> None:
    records = [
        record("a.jpg"),
        record("b.jpg", ("person",)),
        record("c.jpg", ()),
        record("d.jpg", KINDS),
    ]
    kept, reasons = for_training(records)
    assert kept == [records[0], records[3]]
    assert reasons == ["2 of 4 images left out: heads are not annotated on them"]
    assert for_training(kept) == (kept, [])


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("hard_hat_1_jpg.rf.0a1b2c.jpg", "hard_hat_1"),
        ("hard_hat_1_JPG.rf.ffffff.jpg", "hard_hat_1"),
        ("hard_hat_1.jpg", "hard_hat_1"),
        ("hard_hat_1.rf.0a1b2c.png", "hard_hat_1"),
        ("a.b_png.rf.Xy9.jpg", "a.b"),
        ("photo_jpg.jpg", "photo_jpg"),
        ("img (1).jpg", "img (1)"),
        ("surf.rf.jpg", "surf.rf"),
        ("273271,1a0d6000b9e1f5b7.jpg", "273271,1a0d6000b9e1f5b7"),
    ],
)
def test_source_of_a_copy(name: str, source: str) -> None:
    assert record(f"anywhere/{name}").source == source


NAMES = st.lists(st.text("ab12_", min_size=1, max_size=5), max_size=40)


@settings(deadline=None)
@given(names=NAMES, more=NAMES, seed=st.integers(0, 5), test=st.sampled_from([0.0, 0.2, 0.6]))
def test_copies_stay_together_and_nothing_moves(
    names: list[str], more: list[str], seed: int, test: float
) -> None:
    shares = {"train": 0.3, "validation": 0.7 - test, "test": test}
    records = [record(f"one/{name}_jpg.rf.{i}a.jpg") for i, name in enumerate(names)]
    added = [record(f"two/{name}.png") for name in more]
    alone, together = split(records, shares, seed), split([*added, *records], shares, seed)
    assert Counter(r.path for part in alone.values() for r in part) == Counter(
        r.path for r in records
    )
    sources = [{r.source for r in part} for part in together.values()]
    assert len(set().union(*sources)) == sum(map(len, sources))
    for part, before in alone.items():
        assert [r for r in together[part] if r in records] == before
    assert test or not together["test"]
    kept, dropped = without_overlap(together["train"], together["validation"], together["test"])
    assert kept == together["train"] and dropped == []


def test_shares_and_seed() -> None:
    records = [record(f"{i}.jpg") for i in range(2000)]
    parts = split(records)
    assert [round(len(parts[name]) / 2000, 1) for name in ("train", "validation", "test")] == [
        0.8,
        0.1,
        0.1,
    ]
    assert [r.path.stem for r in parts["test"]][:3] == [
        "3",
        "19",
        "20",
    ]  # on every machine, in every version
    assert [r.path for r in split(records, seed=1)["test"]] != [r.path for r in parts["test"]]
    for wrong in ({"a": 0.5}, {"a": 1.5, "b": -0.5}):
        with pytest.raises(ValueError, match="shares: "):
            split(records, wrong)


def test_a_split_is_written_down(tmp_path: Path) -> None:
    shares = {"train": 0.5, "validation": 0.5}
    parts = split([record(f"set/{part}/{i}.jpg") for part in "ab" for i in range(4)], shares, 3)
    write_split(tmp_path / "split.json", parts, shares, 3)
    told = json.loads((tmp_path / "split.json").read_text())
    assert (told["shares"], told["seed"]) == (shares, 3)
    assert sorted(sum(told["pictures"].values(), [])) == [
        f"{part}/{i}.jpg" for part in "ab" for i in range(4)
    ]
    assert told["pictures"]["train"] == sorted("/".join(r.path.parts[-2:]) for r in parts["train"])
    write_split(tmp_path / "split.json", {"train": [], "validation": []})
    assert json.loads((tmp_path / "split.json").read_text())["pictures"] == {
        "train": [],
        "validation": [],
    }


def test_overlap_is_left_out_by_name() -> None:
    train = [
        record(f"train/{name}") for name in ("a_jpg.rf.1.jpg", "b.jpg", "c_png.rf.2.jpg", "d.jpg")
    ]
    kept, dropped = without_overlap(train, [record("val/a_jpg.rf.9.jpg")], [record("test/c.png")])
    assert [r.path.name for r in kept] == ["b.jpg", "d.jpg"]
    assert dropped == [str(train[0].path), str(train[2].path)]


def test_spread_reaches_both_ends() -> None:
    numbers = list(range(574))
    assert spread(numbers, 192)[0] == 0 and spread(numbers, 192)[-1] >= 570
    assert len(spread(numbers, 192)) == len(set(spread(numbers, 192))) == 192
    assert spread(numbers, 574) == spread(numbers, 1000) == numbers
