"""One image file → size×size RGB, or the reason why not.

The rules, which a cache's key names by their version:

- The format is told by content, not by name: JPEG, PNG, WebP, BMP, PPM/PGM, TIFF, first frame of a GIF.
- The header's size is checked before a pixel is decoded; an accepted file is decoded whole, never padded.
- EXIF orientation is applied. Colour profiles are ignored.
- Transparent pixels lie on white. 16-bit grey becomes its high byte (v >> 8). Float and 32-bit pixels are
  stretched from the image's own finite range to 0..255. Where a TIFF says that zero is white, it is.
- The centred square (side = the short side) is resampled to size×size with an antialiased bicubic filter; a
  square that has the size already keeps its pixels. A JPEG far larger than needed is decoded at a half,
  quarter or eighth of its size first, never below twice ``size``.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImageFile, UnidentifiedImageError

from twoviews.dataset.decode_limits import TooSlowError, strict_pillow, time_limit
from twoviews.dataset.images import Pixels
from twoviews.dataset.jpeg import end_of_image, was_filled
from twoviews.dataset.reasons import what_broke, what_it_is
from twoviews.dataset.scan import FoundFile
from twoviews.errors import ResourceError

RULES_VERSION = 2
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "PPM", "TIFF", "GIF")
FORMATS_TEXT = "JPEG, PNG, WebP, BMP, PPM, TIFF or GIF"
MIN_SHORT_SIDE = 8

_ORIENTATION = 0x0112
_BITS, _WHITE_IS_ZERO, _SAMPLE_FORMAT = 258, 262, 339  # TIFF tags
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Decoded(NamedTuple):
    """Pixels (3×size×size uint8), or None and the reason; ``stretched`` where a range was rescaled."""

    pixels: Pixels | None
    reason: str = ""
    stretched: bool = False


class _BadImageError(Exception):
    """The reason for leaving a file out."""


def decode_batch(folder: str, files: Sequence[FoundFile], size: int, max_pixels: int) -> list[Decoded]:
    """Decode files below ``folder``, one result each, in order; a bad file never raises.

    Raises:
        ResourceError: there is not enough memory. The file is not left out for that: on another day it would be in.
    """
    with strict_pillow():
        return [decode_file(os.path.join(folder, file.path), file, size, max_pixels) for file in files]


def decode_file(path: str, expected: FoundFile, size: int, max_pixels: int) -> Decoded:
    """Decode one file; call it through ``decode_batch``, which sets Pillow up."""
    head = b""
    try:
        # Without O_NONBLOCK, a pipe put in the file's place since the scan would hang.
        with open(
            os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb"
        ) as stream:
            status = os.fstat(stream.fileno())
            same = (status.st_size, status.st_mtime_ns) == (expected.size, expected.mtime_ns)
            if not same or not stat.S_ISREG(status.st_mode):
                return Decoded(None, "changed while it was read")
            head = stream.read(32)
            stream.seek(0)
            decoded = _decode(stream, size, max_pixels)
            after = os.fstat(stream.fileno())
            if (after.st_size, after.st_mtime_ns) != (expected.size, expected.mtime_ns):
                return Decoded(None, "changed while it was read")
            return decoded
    except _BadImageError as error:
        return Decoded(None, str(error))
    except TooSlowError:
        return Decoded(None, "takes too long to decode")
    except UnidentifiedImageError:
        return Decoded(None, what_it_is(head))
    except FileNotFoundError:
        return Decoded(None, "deleted while the folder was read")
    except MemoryError as error:
        raise ResourceError(
            f"Not enough memory to decode {path}: close other programs, or leave large images out with --max-pixels."
        ) from error
    except Exception as error:
        # Decoders raise nearly anything on a damaged file: struct.error, SyntaxError, KeyError, zlib.error.
        return Decoded(None, what_broke(error))


def _decode(stream: BinaryIO, size: int, max_pixels: int) -> Decoded:
    with time_limit(5.0), Image.open(stream, formats=FORMATS) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise _BadImageError(f"{width * height / 1e6:.3g} MP > {max_pixels / 1e6:.3g} MP limit (--max-pixels)")
        if min(width, height) < MIN_SHORT_SIDE:
            raise _BadImageError(f"too small ({width}×{height} pixels; the short side must be {MIN_SHORT_SIDE})")
        file_format = image.format or ""
        with time_limit(5.0 + width * height / 1e7):
            if file_format in ("JPEG", "MPO"):
                _load_jpeg(image, stream, size)
            else:
                if file_format == "PNG":
                    _check_png(stream)
                image.load()
            rgb, stretched = _to_rgb(_upright(image), file_format, getattr(image, "tag_v2", {}))
            square = _centre_square(rgb, size)
    return Decoded(np.ascontiguousarray(np.asarray(square).transpose(2, 0, 1)), "", stretched)


def _load_jpeg(image: Image.Image, stream: BinaryIO, size: int) -> None:
    """Decode, far larger images at a fraction of their size; refuse what Pillow decodes although it was cut."""
    end = end_of_image(stream)
    if end is None:
        raise _BadImageError("truncated (no end of image)")
    draft = (2 * size, 2 * size)
    assert isinstance(image, ImageFile.ImageFile)
    image.draft(None, draft)  # type: ignore[arg-type]
    image.load()
    if was_filled(image, stream, end, draft):
        raise _BadImageError("truncated (its end of image comes too early)")


def _check_png(stream: BinaryIO) -> None:
    """Read all checksums: decoding skips those of the pixel data."""
    position = stream.tell()
    stream.seek(0)
    with Image.open(stream, formats=("PNG",)) as image:
        image.verify()
    stream.seek(position)


def _upright(image: Image.Image) -> Image.Image:
    try:
        turn = _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a broken EXIF block says nothing about the pixels
        turn = None
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image, file_format: str, tags: Mapping[int, Any]) -> tuple[Image.Image, bool]:
    """The image in RGB, and whether its range was stretched; ``tags`` are a TIFF's."""
    # Pillow turns such pixels round itself where they have 8 bits or fewer.
    inverted = tags.get(_WHITE_IS_ZERO) == 0
    if image.mode.startswith("I;16") or (image.mode == "I" and file_format in ("PNG", "PPM")):
        values = np.asarray(image)
        high_bytes = (values >> 8).astype(np.uint8)
        if isinstance(transparent := image.info.get("transparency"), int):
            high_bytes[values == transparent] = 255
        return Image.fromarray(255 - high_bytes if inverted else high_bytes).convert("RGB"), False
    if image.mode in ("I", "F"):
        values = np.asarray(image)
        if image.mode == "I" and tags.get(_BITS) == (32,) and tags.get(_SAMPLE_FORMAT, (1,)) == (1,):
            values = values.view(np.uint32)  # Pillow has no such mode and gives the bits as signed numbers
        grey = _stretch(values.astype(np.float64))
        return Image.fromarray(255 - grey if inverted else grey).convert("RGB"), True
    if image.mode == "LAB":
        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, *profiles, outputMode="RGB")
        assert converted is not None
        return converted, False
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB"), False
    return image if image.mode == "RGB" else image.convert("RGB"), False  # convert() would copy it


def _stretch(values: npt.NDArray[np.float64]) -> Pixels:
    """Finite range → 0..255; a constant image becomes black."""
    if np.isnan(values).any():
        raise _BadImageError("a pixel is not a number (NaN)")
    finite = values[np.isfinite(values)]
    if len(finite) == 0:
        raise _BadImageError("no pixel is finite")
    low, high = float(finite.min()), float(finite.max())
    scale = 255.0 / (high - low) if high > low else 0.0
    return np.rint((np.clip(values, low, high) - low) * scale).astype(np.uint8)


def _centre_square(image: Image.Image, size: int) -> Image.Image:
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    box = (left, top, left + side, top + side)
    if side == size:
        return image.crop(box)
    return image.resize((size, size), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)
