"""What the commands share: the application, a run over many files, usage errors."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

import typer

from roi_anon_ros.errors import RoiAnonError

if TYPE_CHECKING:  # the real imports stand in the commands: torch takes seconds, --help must not
    from roi_anon_ros.codec import Header

T = TypeVar("T")

app = typer.Typer(
    help="Anonymize and compress images of people, and decode them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


@dataclass
class Tally:
    """Counts images, the bytes of their packets, and the sum of their bits per pixel of the
    source.
    """

    images: int = 0
    size: int = 0
    bits_per_pixel: float = 0.0

    def add(self, packet: bytes) -> Header:
        """Count one packet and return its header.

        Raises:
            PacketError: it is damaged.
        """
        from roi_anon_ros.codec.packet import unpack

        header, _, _ = unpack(packet)
        self += Tally(1, len(packet), header.bits_per_pixel(len(packet)))
        return header

    def __iadd__(self, other: Tally) -> Tally:
        self.images += other.images
        self.size += other.size
        self.bits_per_pixel += other.bits_per_pixel
        return self

    @property
    def mean(self) -> float:
        """Mean of the images' bits per pixel; 0 without images."""
        return self.bits_per_pixel / self.images if self.images else 0.0


@dataclass
class Run:
    """One run over many files: what it did, its progress, its reports.

    Attributes:
        resumes: whether outputs of a former run may be kept.
        tally: of all packets, those of kept outputs included.
        kept: outputs that a former run had finished.
        failed: sources with which something was wrong.
    """

    resumes: bool
    tally: Tally = field(default_factory=Tally)
    kept: int = 0
    failed: set[Path] = field(default_factory=set)

    def __post_init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )

    def track(self, items: Iterable[T], total: int | None, name: str) -> Iterator[T]:
        """Yield the items and show how far they are."""
        task = self.progress.add_task(name, total=total)
        try:
            for item in items:
                yield item
                self.progress.advance(task)
        finally:
            self.progress.remove_task(task)

    def keep(self, done: Tally) -> None:
        """Count an output that was there."""
        self.kept += 1
        self.tally += done

    def fail(self, source: Path, error: object) -> None:
        """Report a source; the run goes on."""
        self.failed.add(source)
        self.note(source, error)

    def note(self, source: Path, message: object) -> None:
        """Print a line about a source."""
        line = f"{source}: {reason(message) if isinstance(message, Exception) else message}"
        self.progress.console.print(
            line, markup=False, highlight=False, emoji=False, soft_wrap=True
        )

    def sum_up(self, line: str, files: int) -> None:
        """Print what was done of that many files.

        Raises:
            typer.Exit: with 1, if something was wrong with one of them.
        """
        if self.kept:
            line += f"; {self.kept} of {files} files were already done"
        if self.failed:
            line += f"; {len(self.failed)} files with errors"
        typer.echo(line)
        if self.failed:
            raise typer.Exit(1)


def reason(error: Exception) -> str:
    """An error without the name of the file, where the line says it already."""
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def must_exist(path: Path) -> None:
    """End the command where there is no such file or folder."""
    if not path.exists():
        usage_error(f"{path}: no such file or folder")


def usage_error(message: str) -> NoReturn:
    """Print what is wrong with the command, and end it with exit code 2."""
    typer.echo(message, err=True)
    raise typer.Exit(2)


@contextmanager
def usage_errors(prefix: str = "") -> Iterator[None]:
    """Turn what is wrong with a command's arguments into a line, with a prefix, and exit code 2."""
    try:
        yield
    except Exception as error:
        known = (ImportError, OSError, ValueError, RoiAnonError, *_opencv_errors())
        if not isinstance(error, known):
            raise
        usage_error(f"{prefix}{error}")


def _opencv_errors() -> tuple[type[Exception], ...]:
    """OpenCV's error, where it was imported."""
    return (sys.modules["cv2"].error,) if "cv2" in sys.modules else ()


def quiet_libraries() -> None:
    """Before their import: what is wrong with a file is reported here, and their deprecations
    concern no user.
    """
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    warnings.simplefilter("ignore", FutureWarning)


@contextmanager
def interruptible(extra: str = "") -> Iterator[None]:
    """Turn Ctrl-C into a line and exit code 130, a missing package into a line that names the extra
    to install.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if not extra or str(error.name).startswith("roi_anon_ros"):
            raise
        usage_error(
            f"{error.name} is not installed: this needs pip install 'roi_anon_ros[{extra}]'"
        )
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        raise typer.Exit(130) from None
