"""The anonymizers that deploy today, to compare with: they treat faces that a detector finds."""

from .faces import HIDE, FaceAnonymizer, blur, mask, pixelate

__all__ = ["HIDE", "FaceAnonymizer", "blur", "mask", "pixelate"]
