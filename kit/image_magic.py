"""What the first bytes of the images that models take look like."""

from typing import Final

IMAGE_KINDS: Final = ("image/png", "image/jpeg", "image/webp", "image/gif")
"""Media types of those images."""

_MAGIC: Final = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a")


def looks_like_image(start: bytes | bytearray) -> bool:
    """Return whether bytes begin like an image of `IMAGE_KINDS`; 12 of them are enough."""
    is_webp = start[:4] == b"RIFF" and start[8:12] == b"WEBP"
    return is_webp or start.startswith(_MAGIC)


def image_kind(start: bytes | bytearray) -> str:
    """Return the media type of an image by its first bytes; empty for what is none."""
    if start.startswith(_MAGIC[0]):
        return "image/png"
    if start.startswith(_MAGIC[1]):
        return "image/jpeg"
    if start.startswith(_MAGIC[2:]):
        return "image/gif"
    return "image/webp" if looks_like_image(start) else ""
