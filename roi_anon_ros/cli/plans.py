"""What a run over many files is to do, and what a former run has done."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from roi_anon_ros.cli.run import (
    Run,
    Tally,
    usage_error,
)

if TYPE_CHECKING:
    from roi_anon_ros.codec import Header


VIDEOS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".ts", ".webm")

#: Files of one suffix that are named before only their number is said.
NAMED = 10

PACKETS = (".ran",)


def execute_plan(
    plan: dict[Path, list[Path]], work: Callable[[Path, Path, Run], None], verb: str, resumes: bool
) -> None:
    """Do the work for each target; report, skip and go on where it fails; sum up."""
    run = Run(resumes)
    with run.progress:
        for target, sources in run.track(plan.items(), len(plan), verb):
            if len(sources) > 1:
                for source in sources:
                    others = ", ".join(str(other) for other in sources if other != source)
                    run.fail(source, f"skipped: {others} would be written to the same {target}")
                continue
            try:
                work(sources[0], target, run)
            except (OSError, ValueError) as error:  # the codec's errors are ValueErrors
                run.fail(sources[0], error)
    t = run.tally
    run.sum_up(f"{verb} {t.images} images, {t.size} bytes, {t.mean:.4f} bits per pixel", len(plan))


def make_plan(
    source: Path, out: str, taken: tuple[str, ...], suffixes: Callable[[Path], tuple[str, ...]]
) -> dict[Path, list[Path]]:
    """What is to be written, and from what.

    Args:
        source: file, or folder that is searched for suffixes in ``taken``.
        out: file or folder.
        taken: suffixes, lower case.
        suffixes: those that an output of this source may have; the first is the default.
    """
    target = Path(out)
    if source.is_dir():
        if target.exists() and not target.is_dir():
            usage_error(f"{target}: must be a folder, as {source} is one")
        plan: dict[Path, list[Path]] = {}
        left_out: dict[str, list[Path]] = {}
        for file in sorted(source.rglob("*")):
            if file.suffix.lower() in taken and file.is_file():
                name = file.relative_to(source).with_suffix(suffixes(file)[0])
                plan.setdefault(target / name, []).append(file)
            elif not file.is_dir():
                left_out.setdefault(file.suffix.lower(), []).append(file)
        _name_left_out(source, left_out, taken)
        if not plan:
            usage_error(f"{source}: nothing in it ends in {' '.join(taken)}")
        return plan
    allowed = suffixes(source)
    if out.endswith(os.sep) or target.is_dir():
        target = target / (source.stem + allowed[0])
    elif target.suffix.lower() not in allowed:
        usage_error(f"{target}: must be a folder, or end in {' or '.join(allowed)}")
    if target.exists() and target.samefile(source):
        usage_error(f"{target}: would be written over its own source")
    return {target: [source]}


def _name_left_out(source: Path, left_out: dict[str, list[Path]], taken: tuple[str, ...]) -> None:
    """Print which files of a folder are not read, by suffix."""
    for suffix, files in left_out.items():
        names = ", ".join(str(file.relative_to(source)) for file in files[:NAMED])
        if len(files) > NAMED:
            names += f" and {len(files) - NAMED} more"
        if suffix in taken:
            typer.echo(f"{source}: left out, no such file is there: {names}", err=True)
        else:
            what = f"files in {suffix}" if suffix else "files without a suffix"
            typer.echo(f"{source}: left out, {what} are not read: {names}", err=True)


def keep_output(
    run: Run, target: Path, modified_ns: int, packets: Path, belongs: Callable[[Header], bool]
) -> bool:
    """Whether a former run finished this output: it has its source's time, and the packets in the
    file belong.

    Then it is counted, and stays.
    """
    if not (run.resumes and target.is_file() and target.stat().st_mtime_ns == modified_ns):
        return False
    done = tally_packets(packets, belongs)
    if done is None:
        return False
    run.keep(done)
    return True


def tally_packets(file: Path, belongs: Callable[[Header], bool]) -> Tally | None:
    """Count the packets of a file; None if it is damaged, or a packet does not belong."""
    from roi_anon_ros import files
    from roi_anon_ros.codec import PacketError

    tally = Tally()
    try:
        for packet in (
            files.Sequence(file) if files.is_sequence(file) else [files.read_packet(file)]
        ):
            if not belongs(tally.add(packet)):
                return None
    except PacketError:
        return None
    return tally
