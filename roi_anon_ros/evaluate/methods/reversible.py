"""A learned reversible anonymizer, to compare with: its images as everybody sees them, as those who
were given its recovery network do, and as an attacker does who trained one of his own.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from roi_anon_ros.evaluate.methods.method import ATTACKED, REVERSIBLE, Method
from roi_anon_ros.files import decode_image, encode_image
from roi_anon_ros.storage import digest
from roi_anon_ros.train.reversible_networks import read_reversible

#: Who looks, by what follows the file's name: what the method is called, and the network.
LOOKS = {
    "": ("reversible", ""),
    "recovered": ("reversible, recovered", "recovery"),
    "attacked": (f"reversible{ATTACKED}", "attacker"),
}


def make_reversible(subject: str) -> Method:
    """Images protected by a learned anonymizer, sent without loss.

    Args:
        subject: the file of ``train.reversible``, after it perhaps ``:recovered`` or ``:attacked``.

    Raises:
        ValueError: the file cannot be used.
    """
    file, _, look = subject.rpartition(":")
    if not file or look not in LOOKS:
        file = subject
        look = ""
    try:
        made = read_reversible(Path(file))
    except ValueError as error:
        raise ValueError(f"{REVERSIBLE}{subject}: {error}") from error
    name, network = LOOKS[look]

    def encode(image: np.ndarray) -> bytes:
        return encode_image(made.generator.translate(image), "PNG")

    def decode(data: bytes) -> np.ndarray:
        protected = decode_image(data)
        return made.networks[network].translate(protected) if network else protected

    return Method(name, f"{name} {digest(Path(file))}", encode, decode)
