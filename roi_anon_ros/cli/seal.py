"""``unseal`` and ``key``: hidden pixels for key holders, and the keys."""

from __future__ import annotations

import hashlib
import os
import pwd
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roi_anon_ros.cli.run import app, interruptible, must_exist, quiet_libraries, usage_error

if TYPE_CHECKING:
    import numpy as np

    from roi_anon_ros.seal import Opener
    from roi_anon_ros.seal.keys import PrivateKey, PublicKey

#: Where scripts put the passphrase of all keys that they name.
PASSPHRASE = "ROI_ANON_PASSPHRASE"
LOG_NAME = "unsealed.log"

key_app = typer.Typer(help="Keys of those who may see what was hidden.", no_args_is_help=True)
log_app = typer.Typer(help="The log of what was unsealed.", no_args_is_help=True)
key_app.add_typer(log_app, name="log")
app.add_typer(key_app, name="key")

KeyOption = Annotated[
    list[Path],
    typer.Option("--key", help="A private key; repeat it where it takes several officers."),
]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, for the log.")]
LogOption = Annotated[
    Path | None,
    typer.Option("--log", help="The log.", show_default=f"{LOG_NAME} in the folder of SEALED"),
]


@app.command()
def unseal(
    packets: Annotated[Path, typer.Argument(metavar="PACKETS", help="A .ran file.")],
    sealed: Annotated[
        Path, typer.Argument(metavar="SEALED", help="The .seal file of its packets.")
    ],
    out: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="A .png file; .mp4, .mkv, .mov or .webm of a video."),
    ],
    key: KeyOption,
    reason: ReasonOption,
    log: LogOption = None,
    model: Annotated[
        str | None,
        typer.Option(help="Name or file; by default the installed model that wrote the packets."),
    ] = None,
) -> None:
    """Decode packets and put the hidden pixels back, for key holders.

    Everything is checked first: a wrong key, another packet or one changed bit is refused, and
    nothing is written. Then the log gets its line, and only then OUT is written, readable by you
    alone.

    Images have the coded size, so that the hidden pixels are those that were sealed. A video is
    compressed once more.

    Passphrases are asked for, or taken from the environment: ROI_ANON_PASSPHRASE.
    """
    with interruptible("seal"), _refusals(sealed):
        _must_all_exist(packets, sealed, *key)
        quiet_libraries()
        from roi_anon_ros import files
        from roi_anon_ros.codec import ModelFileError
        from roi_anon_ros.seal import Opener

        suffixes = tuple(files.VIDEO_CODECS) if files.is_sequence(packets) else (".png",)
        if out.suffix.lower() not in suffixes:
            usage_error(f"{out}: must end in {' or '.join(suffixes)}")
        opener = Opener(_load_keys(key))
        try:
            unsealing = _Unsealing(packets, sealed, opener, model)
            opened, total = unsealing.check()
        except ModelFileError as error:
            usage_error(str(error))
        details = {"opened": opened, "of": total, "out": str(out)}
        officers = opener.officers
        _append_log(log, "unseal", officers, reason, (packets, sealed), details)
        unsealing.write(out)
        typer.echo(f"unsealed {opened} of {total} images by {', '.join(officers)}")


@key_app.command("new")
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the officer.")],
    out: Annotated[Path, typer.Option(help="Folder.")] = Path("."),
    no_passphrase: Annotated[
        bool, typer.Option("--no-passphrase", help="Leave the private key unprotected.")
    ] = False,
) -> None:
    """Make a pair of keys: NAME.key for the officer, NAME.pub for the cameras.

    The private key never goes to a camera. It is lost with its passphrase, and with it what only it
    opens.
    """
    with interruptible("seal"), _refusals(out / name):
        from roi_anon_ros.seal.keys import new_key

        passphrase = None if no_passphrase else _ask_passphrase(name, confirm=True)
        public = new_key(out, name, passphrase, _now())
        typer.echo(f"{out / name}.key, {name}.pub: key {public.id.hex()}")


@key_app.command("list")
def list_(
    officers: Annotated[Path, typer.Argument(metavar="OFFICERS", help="Folder of public keys.")],
) -> None:
    """List the public keys that a camera has, with their ids and dates.

    Compare the ids with what the officers tell you: who can put a key into the folder can read what
    follows.
    """
    with interruptible("seal"), _refusals(officers):
        _must_all_exist(officers)
        from roi_anon_ros.seal.keys import list_keys

        for key in list_keys(officers).values():
            typer.echo(_line(key))


@key_app.command()
def revoke(
    officers: Annotated[Path, typer.Argument(metavar="OFFICERS", help="Folder of public keys.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the officer, or the key's id.")],
) -> None:
    """Revoke a key: what is sealed from the next segment on is no longer for it.

    What was sealed before still is; key wrap takes it out of files.
    """
    with interruptible("seal"), _refusals(officers):
        _must_all_exist(officers)
        from roi_anon_ros.seal.keys import revoke_key

        typer.echo(_line(revoke_key(officers, name, _now())))


@key_app.command()
def wrap(
    sealed: Annotated[Path, typer.Argument(metavar="SEALED", help="A .seal file.")],
    key: KeyOption,
    officers: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Folder of the public keys that open it from now on."),
    ],
    reason: ReasonOption,
    threshold: Annotated[int, typer.Option(min=1, help="Officers that it takes to open.")] = 1,
    log: LogOption = None,
) -> None:
    """Wrap the keys of a sealed file anew, for exactly the officers of a folder.

    It takes the keys that open the file now, and is logged like an opening. No image is opened.
    """
    with interruptible("seal"), _refusals(sealed):
        _must_all_exist(sealed, officers, *key)
        from roi_anon_ros.seal.file import change_segments, read_segments
        from roi_anon_ros.seal.grants import rewrap, unwrap_key
        from roi_anon_ros.seal.keys import load_officers

        keys = _load_keys(key)
        new_officers = load_officers(officers)
        used: dict[str, None] = {}
        for segment in read_segments(sealed):
            for opening in unwrap_key(segment, keys)[1]:
                used[opening.name] = None
        names = [officer.name for officer in new_officers]
        details = {"for": names, "threshold": threshold}
        _append_log(log, "wrap", list(used), reason, (sealed,), details)
        count = change_segments(sealed, lambda s: rewrap(s, keys, new_officers, threshold))
        typer.echo(f"wrapped {count} segments for {', '.join(names)}, threshold {threshold}")


@key_app.command()
def expire(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="A .seal file, or a folder of them.")
    ],
    days: Annotated[float, typer.Option(min=0, help="Age from which on keys are destroyed.")],
) -> None:
    """Destroy the keys of what was sealed DAYS ago or earlier, and with them the sealed part.

    It needs no private key: let it run every day. Run it on copies and backups too.
    """
    with interruptible("seal"):
        _must_all_exist(path)
        from roi_anon_ros.seal import SealError
        from roi_anon_ros.seal.file import SUFFIX, expire_segments

        files = sorted(path.rglob("*" + SUFFIX)) if path.is_dir() else [path]
        count = 0
        failed = 0
        for file in files:
            try:
                count += expire_segments(file, days, time.time_ns())
            except (SealError, OSError) as error:
                typer.echo(f"{file}: {error}", err=True)
                failed += 1
        typer.echo(f"destroyed the keys of {count} segments in {len(files)} files")
        if failed:
            raise typer.Exit(1)


@log_app.command()
def verify(
    log: Annotated[Path, typer.Argument(metavar="LOG")],
    last: Annotated[
        str | None,
        typer.Option(metavar="HASH", help="A hash that was noted; it must be in the log."),
    ] = None,
) -> None:
    """Check that no line of the log was changed, taken out, put in or moved.

    Lines cut off at the end are found by a hash that was noted elsewhere, with --last.
    """
    with interruptible("seal"), _refusals(log):
        _must_all_exist(log)
        from roi_anon_ros.seal import SealError
        from roi_anon_ros.seal.log import NO_HASH, verify_log

        entries = verify_log(log)
        if last is not None and last not in [entry.hash for entry in entries]:
            raise SealError("log", f"no line has the hash {last}")
        final = entries[-1].hash if entries else NO_HASH
        typer.echo(f"{len(entries)} lines, the last hash is {final}")


class _Unsealing:
    """The packets of a file with what was sealed of them: gone through once to check, once to
    write."""

    def __init__(self, packets: Path, sealed: Path, opener: Opener, model: str | None) -> None:
        from roi_anon_ros.cli.decoding import Codecs

        self._packets = packets
        self._sealed = sealed
        self._opener = opener
        self._codecs = Codecs(model)

    def check(self) -> tuple[int, int]:
        """Open everything and keep nothing.

        Returns:
            The number of images with a sealed part, and of all images.

        Raises:
            SealError: something is refused.
            PacketError: a packet is damaged.
            ModelFileError: the model of a packet is not installed.
        """
        from roi_anon_ros.codec.packet import unpack
        from roi_anon_ros.seal import SealError

        total = 0
        found = 0
        for packet, opened in self._pairs():
            header, _, _ = unpack(packet)
            self._codecs.of(header)
            total += 1
            if opened is None:
                continue
            if opened.size != header.coded_size:
                raise SealError("image", f"size: got {opened.size}, must be {header.coded_size}")
            found += 1
        if not found:
            raise SealError("packet", "none of the packets has a sealed part")
        return found, total

    def write(self, out: Path) -> None:
        """Write the image or the video, readable by its owner alone; nothing half-written stays."""
        from roi_anon_ros import files, storage

        before = os.umask(0o077)
        try:
            if files.is_sequence(self._packets):
                rate = files.Sequence(self._packets).rate
                draft = storage.draft_of(out)
                times = (time for _, time in files.Sequence(self._packets).timed())
                frames = map(files.Frame, self._images(), times)
                files.write_video(draft, out.suffix, frames, rate)
                storage.move_into_place(draft, out, time.time_ns())
            else:
                (image,) = self._images()
                storage.write_bytes(out, files.png(image))
        finally:
            os.umask(before)
            storage.draft_of(out).unlink(missing_ok=True)

    def _images(self) -> Iterator[np.ndarray]:
        """Yield the images with their hidden pixels, uint8 ``[h, w, 3]`` RGB, at the coded size."""
        from roi_anon_ros.codec import MAX_SIDE
        from roi_anon_ros.codec.packet import unpack

        for packet, opened in self._pairs():
            header, _, _ = unpack(packet)
            decoded = self._codecs.of(header).decode(packet, max_pixels=MAX_SIDE**2).image
            yield decoded if opened is None else opened.paste_into(decoded)

    def _pairs(self) -> Iterator[tuple[bytes, Any]]:
        from roi_anon_ros import files
        from roi_anon_ros.seal.file import read_frames
        from roi_anon_ros.seal.opener import open_sequence

        if files.is_sequence(self._packets):
            packets = iter(files.Sequence(self._packets))
        else:
            packets = iter([files.read_packet(self._packets)])
        return open_sequence(packets, read_frames(self._sealed), self._opener)


@contextmanager
def _refusals(subject: Path) -> Iterator[None]:
    """Turn what is refused into a line, and end the command with exit code 1."""
    try:
        yield
    except (OSError, ValueError) as error:  # the seal's and the codec's errors are ValueErrors
        typer.echo(f"{subject}: {error}", err=True)
        raise typer.Exit(1) from None


def _must_all_exist(*paths: Path) -> None:
    for path in paths:
        must_exist(path)


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _load_keys(paths: list[Path]) -> list[PrivateKey]:
    """Read private keys, and ask for their passphrases."""
    from roi_anon_ros.seal.keys import load_private_key, needs_passphrase

    keys = []
    for path in paths:
        passphrase = _ask_passphrase(path.name) if needs_passphrase(path) else None
        keys.append(load_private_key(path, passphrase))
    return keys


def _ask_passphrase(name: str, confirm: bool = False) -> str:
    """The passphrase of a key, from the environment or the terminal."""
    if PASSPHRASE in os.environ:
        return os.environ[PASSPHRASE]
    question = f"passphrase of {name}"
    return typer.prompt(question, hide_input=True, confirmation_prompt=confirm, err=True)


def _append_log(
    log: Path | None,
    action: str,
    officers: list[str],
    reason: str,
    subjects: tuple[Path, ...],
    details: dict[str, object],
) -> None:
    """Write the log's line about these files; the last one is the sealed one."""
    from roi_anon_ros.seal.log import append_entry

    path = log or subjects[-1].parent / LOG_NAME
    packets: dict[str, object] = dict(details)
    packets["files"] = {str(subject): _sha256(subject) for subject in subjects}
    entry = append_entry(path, action, _user(), officers, reason, packets, _now())
    typer.echo(f"{path}: line {entry.number}, hash {entry.hash}", err=True)


def _user() -> str:
    """Who runs this process; not from the environment, which anybody can set."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user without a name
        return f"uid {os.getuid()}"


def _sha256(path: Path) -> str:
    """Of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _line(key: PublicKey) -> str:
    """A public key in a line."""
    revoked = f"  revoked {key.revoked}" if key.revoked else ""
    return f"{key.id.hex()}  {key.name}  since {key.created}{revoked}"
