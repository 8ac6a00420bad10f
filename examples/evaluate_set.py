"""Evaluate a set from Python: rate, persons and faces of a model next to AVIF.

python examples/evaluate_set.py                    # a set of one image, judged by its original
python examples/evaluate_set.py SET [IMAGES]       # CrowdHuman, COCO, YOLO or Pascal VOC
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from own_detector import HogPersons

from roi_anon_ros.datasets import read_set
from roi_anon_ros.detect import MtcnnFaces
from roi_anon_ros.evaluate.latency.images import default_image
from roi_anon_ros.evaluate.measure import look
from roi_anon_ros.evaluate.methods import make_methods
from roi_anon_ros.evaluate.summary import summary
from roi_anon_ros.files import png


def make_set(folder: Path) -> Path:
    """Write a set of one image that nobody annotated, as a COCO JSON."""
    image, _ = default_image()
    (folder / "image.png").write_bytes(png(image))
    entry = {"id": 1, "file_name": "image.png", "height": image.shape[0], "width": image.shape[1]}
    entry["annotated"] = []
    categories = [{"id": 1, "name": "person"}]
    target = folder / "set.json"
    target.write_text(json.dumps({"images": [entry], "annotations": [], "categories": categories}))
    return target


def main() -> None:
    """Print a line for each method."""
    with TemporaryDirectory() as folder:
        annotations = Path(sys.argv[1]) if sys.argv[1:] else make_set(Path(folder))
        images = Path(sys.argv[2]) if sys.argv[2:] else None
        records = read_set(annotations, images).records
        detectors = {"persons": HogPersons(), "mtcnn": MtcnnFaces(confidence=0.1)}
        originals = None
        for method in make_methods("roi,avif:10"):
            seen = [(record, look(record, method, detectors)) for record in records]
            originals = originals or seen  # the first method sends the originals
            figures = summary(seen, originals)
            print(
                f"{method.name}: {figures['bits_per_pixel']:.3f} bits per pixel,"
                f" persons' average precision {figures['persons_ap']:.2f},"
                f" {figures['mtcnn_true']} of {figures['mtcnn_boxes']} faces"
            )


if __name__ == "__main__":
    main()
