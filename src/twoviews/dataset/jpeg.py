"""What the JPEG library keeps quiet about: a file that ends early, whose missing pixels it makes up."""

from __future__ import annotations

import io
import mmap
import re
from typing import BinaryIO

import numpy as np
from PIL import Image

# Of fill bytes before a marker only the last is matched: a pattern that begins with one fixed byte is searched for
# an order of magnitude faster than \xff+.
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])", re.DOTALL)
_END = b"\xff\xd9"
_MID_GREY = 128
# Anything that is no marker; it begins with 0 because a fill byte may stand before it.
_MORE_DATA = bytes(i * 37 % 251 for i in range(4096))


def end_of_image(stream: BinaryIO) -> int | None:
    """Where the marker "end of image" is, or None; what phones append after it (films, maps) is not looked at."""
    with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        position = 2
        while found := _MARKER.search(data, position):
            marker, position = found[1][0], found.end()
            if marker == _END[1]:
                return found.start()
            if marker not in (0x01, 0xD8):
                position += max(2, int.from_bytes(data[position : position + 2], "big"))
    return None


def was_filled(image: Image.Image, stream: BinaryIO, end: int, draft: tuple[int, int]) -> bool:
    """Whether the data ran out before ``end``, so that the rest of the image is grey of the library's making.

    Where the last pixel is that grey, more data are put before the end and all is decoded again. A whole image
    ignores them; one that was cut takes them for its missing pixels.

    Args:
        image: the decoded image, as it is stored.
        end: where its end marker is.
        draft: the size that it was decoded for.
    """
    last = image.getpixel((image.width - 1, image.height - 1))
    if last not in (_MID_GREY, (_MID_GREY,) * 3):
        return False
    stream.seek(0)
    with Image.open(io.BytesIO(stream.read(end) + _MORE_DATA + _END), formats=("JPEG",)) as again:
        again.draft(None, draft)  # type: ignore[arg-type]
        return not np.array_equal(np.asarray(again), np.asarray(image))
