"""Encode an image, decode the packet, and write what a server sees to anonymous.png."""

from pathlib import Path

from roi_anon_ros.codec import Codec
from roi_anon_ros.evaluate.latency.images import default_image
from roi_anon_ros.files import png

image, name = default_image()  # uint8 [H, W, 3], RGB
codec = Codec.load("roi")
encoded = codec.encode(image)
decoded = codec.decode(encoded.packet)
Path("anonymous.png").write_bytes(png(decoded.at_source_size()))
print(f"{name}: {len(encoded.packet)} bytes, {encoded.bits_per_pixel:.3f} bits per pixel")
