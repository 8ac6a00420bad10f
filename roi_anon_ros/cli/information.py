"""``info``: what a file says of itself."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roi_anon_ros.cli.plans import PACKETS
from roi_anon_ros.cli.run import (
    Tally,
    app,
    interruptible,
    must_exist,
    quiet_libraries,
    reason,
    usage_error,
)

if TYPE_CHECKING:
    from roi_anon_ros.codec import Header


@app.command()
def info(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A .ran file or a model (.safetensors).")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what is in a .ran file or a model file, after checking it."""
    with interruptible():
        must_exist(file)
        if file.is_dir():
            usage_error(f"{file}: a folder, must be a file")
        quiet_libraries()
        from roi_anon_ros import files
        from roi_anon_ros.codec.packet import MAGIC

        errors: list[str] = []
        content: dict[str, Any] = {}
        try:
            with file.open("rb") as stream:
                begin = stream.read(4)
            if begin == files.SEQUENCE_MAGIC:
                content = _sequence_info(file, errors)
            elif begin == MAGIC or file.suffix.lower() in PACKETS:
                content = _packet_info(files.read_packet(file))
            else:
                content = _model_info(file)
        except (OSError, ValueError) as error:
            errors.append(reason(error))
        if content:
            content = {"file": str(file), "bytes": file.stat().st_size, **content}
            typer.echo(json.dumps(content, indent=2) if as_json else _lines(content))
        for said in errors:
            typer.echo(f"{file}: {said}", err=True)
        if errors:
            raise typer.Exit(1)


def installed_models() -> dict[str, Path]:
    """Files of the installed models by fingerprint; what cannot be read is reported."""
    from safetensors import SafetensorError, safe_open

    from roi_anon_ros.codec import list_models

    found = {}
    for path in list_models().values():
        try:
            with safe_open(path, "pt") as file:
                found[json.loads(file.metadata()["roi_anon"])["fingerprint"]] = path
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            typer.echo(f"{path}: left out, no model: {error}", err=True)
    return found


def _header_info(header: Header) -> dict[str, Any]:
    mark = header.fingerprint.hex()
    model = installed_models().get(mark)
    return {
        "version": header.version,
        "fingerprint": mark,
        "model": model.stem if model else None,
        "source_size": list(header.source_size),
        "coded_size": list(header.coded_size),
        "padding": list(header.padding),
        "quality": header.quality,
        "rotation": 90 * header.turns,
    }


def _packet_info(packet: bytes) -> dict[str, Any]:
    from roi_anon_ros.codec.packet import unpack
    from roi_anon_ros.codec.regions import Regions

    header, payload, cells = unpack(packet)
    return {
        "kind": "image",
        **_header_info(header),
        "share_painted": float(Regions.from_bytes(cells, *header.coded_size).share),
        "payload_bytes": len(payload),
        "bits_per_pixel": header.bits_per_pixel(len(packet)),
    }


def _sequence_info(file: Path, errors: list[str]) -> dict[str, Any]:
    """Of a sequence; the header's fields are those of its first good frame."""
    from roi_anon_ros import files
    from roi_anon_ros.codec import PacketError

    sequence = files.Sequence(file)
    tally = Tally()
    first: Header | None = None
    end = Fraction(0)
    try:
        for number, (packet, seconds) in enumerate(sequence.timed(), 1):
            end = seconds + 1 / sequence.rate
            try:
                header = tally.add(packet)
            except PacketError as error:
                errors.append(f"frame {number}: {error}")
                continue
            first = first or header
    except PacketError as error:
        errors.append(str(error))
    return {
        "kind": "sequence",
        "frames": tally.images,
        "rate": f"{sequence.rate.numerator}/{sequence.rate.denominator}",
        "seconds": float(end),
        "bits_per_pixel": tally.mean,
        "complete": not errors,
        **(_header_info(first) if first else {}),
    }


def _model_info(file: Path) -> dict[str, Any]:
    from roi_anon_ros.codec import load_model

    return {"kind": "model", **load_model(file).metadata}


def _lines(content: dict[str, Any], prefix: str = "") -> str:
    """Aligned lines of a nested dict."""
    lines = []
    for key, value in content.items():
        if isinstance(value, dict):
            lines.append(_lines(value, f"{prefix}{key}.") if value else f"{prefix + key:<28} -")
        else:
            if isinstance(value, list) and len(value) == 2:
                value = (
                    f"{value[0]} x {value[1]}"
                    if key.endswith("size")
                    else f"{value[0]}, {value[1]}"
                )
            elif key == "model" and value is None:
                value = "not installed"
            elif isinstance(value, float):
                value = f"{value:.4f}"
            lines.append(f"{prefix + key:<28} {value}")
    return "\n".join(lines)
