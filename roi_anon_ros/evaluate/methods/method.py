"""One way to send an image: a pair of functions, to bytes and back."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

#: The unprotected baseline of every table.
ORIGINAL = "original"
#: What the name of a method ends with that shows what an attacker recovers from another one.
ATTACKED = ", attacked"
#: What the name of a method begins with that shows what a holder of a key sees of a model's.
OPENED = "opened:"
#: What the name of a method begins with that sends images by a learned reversible anonymizer.
REVERSIBLE = "reversible:"


@dataclass(frozen=True)
class Method:
    """One way to send an image.

    Attributes:
        name: as :func:`make_method` takes it.
        key: all that its result depends on besides the image.
        encode: an image, uint8 ``[H, W, 3]`` RGB, to what is sent.
        decode: what was sent to the image that a receiver sees, of the same size.
        latent: of a model, what was sent to the quantised latent, float32 ``[N, h, w]``: all that
            the receiver has.
        painted: of a model that paints heads over, what was sent to where it did, bool ``[H, W]``:
            a face that is found there is nobody's, since nothing under the paint was sent.
        attack: of an attacked method, the attack's ``steps``, ``batch``, ``seed`` and ``pictures``.
        fingerprint: of the model that sends, attacked or opened as well, 16 hex digits; empty for
            methods without one.
    """

    name: str
    key: str
    encode: Callable[[np.ndarray], bytes]
    decode: Callable[[bytes], np.ndarray]
    latent: Callable[[bytes], np.ndarray] | None = None
    painted: Callable[[bytes], np.ndarray] | None = None
    attack: dict[str, int] | None = None
    fingerprint: str = ""

    def receive(self, data: bytes) -> tuple[np.ndarray, np.ndarray | None]:
        """All that a receiver of ``data`` has.

        Returns:
            The image, uint8 ``[3, H, W]`` RGB, and the latent, float16 ``[N, h, w]`` of a model,
            None of others.
        """
        image = np.ascontiguousarray(self.decode(data).transpose(2, 0, 1))
        if self.latent is None:
            return image, None
        # float16 tells symbols apart up to 2048; the networks see them in bfloat16 anyway.
        return image, self.latent(data).clip(-6e4, 6e4).astype(np.float16)


def fingerprints(methods: Iterable[Method]) -> dict[str, str]:
    """The fingerprint of the model behind each method, by the method's name; of a method without a
    model none.
    """
    return {method.name: method.fingerprint for method in methods if method.fingerprint}


def slug(name: str) -> str:
    """A method's name as part of a file's name: without folders and the suffix of model files."""
    plain = re.sub(r"[^:+@]*/", "", name).replace(".safetensors", "")
    return re.sub(r"[^a-z0-9@]+", "-", plain.lower()).strip("-")
