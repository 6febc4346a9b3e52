"""One image file → size×size RGB, or the reason why not.

The rules, which a cache's key names by their version:

- The format is told by content, not by name: JPEG, PNG, WebP, BMP, PPM/PGM, TIFF, first frame of a GIF.
- The header's size is checked before a pixel is decoded; an accepted file is decoded whole, never padded.
- EXIF orientation is applied. Colour profiles are ignored.
- Transparent pixels lie on white. 16-bit grey becomes its high byte (v >> 8). Float and 32-bit pixels are
  stretched from the image's own finite range to 0..255.
- The centred square (side = the short side) is resampled to size×size with an antialiased bicubic filter; a
  square that has the size already keeps its pixels. A JPEG far larger than needed is decoded at a half,
  quarter or eighth of its size first, never below twice ``size``.
"""

from __future__ import annotations

import mmap
import os
import re
import signal
import stat
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImageFile, UnidentifiedImageError

from twoviews.dataset.images import Pixels
from twoviews.dataset.scan import Found, reason_of

RULES_VERSION = 1
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "PPM", "TIFF", "GIF")
FORMATS_TEXT = "JPEG, PNG, WebP, BMP, PPM, TIFF or GIF"
MIN_SHORT_SIDE = 8

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Of fill bytes before a marker only the last is matched: a pattern that begins with one fixed byte is searched for
# an order of magnitude faster than \xff+.
_JPEG_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])", re.DOTALL)
_ACCEPTED = re.compile(rb"\xff\xd8\xff|\x89PNG|RIFF....WEBP|BM|P[1-7Ff]\s|II[*+]\0|MM\0[*+]|GIF8", re.DOTALL)
_REFUSED = {
    rb"%!PS|\xc5\xd0\xd3\xc6": "EPS",
    rb"8BPS": "PSD",
    rb"\0\0[\1\2]\0": "ICO",
    rb"....ftyp(hei|hev|mif1|msf1)": "HEIC (convert it to JPEG or PNG)",
    rb"....ftypavi[fs]": "AVIF (convert it to JPEG or PNG)",
    rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51": "JPEG 2000",
    rb"\xff\x0a|\0\0\0\x0cJXL ": "JPEG XL",
    rb"%PDF": "PDF",
    rb"....[\x11\x12]\xaf": "FLI",
}


class Decoded(NamedTuple):
    """Pixels (3×size×size uint8), or None and the reason; ``stretched`` where a range was rescaled."""

    pixels: Pixels | None
    reason: str = ""
    stretched: bool = False


class _BadImageError(Exception):
    """The reason for leaving a file out."""


class _TooSlowError(BaseException):
    """Not an Exception, so that no decoder takes it for a fault in the file and goes on."""


def decode_batch(folder: str, files: Sequence[Found], size: int, max_pixels: int) -> list[Decoded]:
    """Decode files below ``folder``, one result each, in order; a bad file never raises."""
    with _strict_pillow():
        return [decode_file(os.path.join(folder, file.path), file, size, max_pixels) for file in files]


def decode_file(path: str, expected: Found, size: int, max_pixels: int) -> Decoded:
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
            return _decode(stream, size, max_pixels)
    except _BadImageError as error:
        return Decoded(None, str(error))
    except _TooSlowError:
        return Decoded(None, "takes too long to decode")
    except UnidentifiedImageError:
        return Decoded(None, _what_it_is(head))
    except FileNotFoundError:
        return Decoded(None, "deleted while the folder was read")
    except MemoryError:
        raise
    except Exception as error:
        # Decoders raise nearly anything on a damaged file: struct.error, SyntaxError, KeyError, zlib.error.
        return Decoded(None, _what_broke(error))


def _decode(stream: BinaryIO, size: int, max_pixels: int) -> Decoded:
    with _time_limit(5.0), Image.open(stream, formats=FORMATS) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise _BadImageError(f"{width * height / 1e6:.3g} MP > {max_pixels / 1e6:.3g} MP limit (--max-pixels)")
        if min(width, height) < MIN_SHORT_SIDE:
            raise _BadImageError(f"too small ({width}×{height} pixels; the short side must be {MIN_SHORT_SIDE})")
        file_format = image.format or ""
        with _time_limit(5.0 + width * height / 1e7):
            _check_whole(stream, file_format)
            if isinstance(image, ImageFile.ImageFile):
                image.draft(None, (2 * size, 2 * size))  # type: ignore[arg-type]
            image.load()
            rgb, stretched = _to_rgb(_upright(image), file_format)
            square = _centre_square(rgb, size)
    return Decoded(np.ascontiguousarray(np.asarray(square).transpose(2, 0, 1)), "", stretched)


def _check_whole(stream: BinaryIO, file_format: str) -> None:
    """Refuse what Pillow decodes although the file was cut or changed."""
    position = stream.tell()
    if file_format in ("JPEG", "MPO") and not _jpeg_ends(stream):
        raise _BadImageError("truncated (no end of image)")
    if file_format == "PNG":
        # Decoding skips the checksums of the pixel data; this reads all of them.
        stream.seek(0)
        with Image.open(stream, formats=("PNG",)) as image:
            image.verify()
    stream.seek(position)


def _jpeg_ends(stream: BinaryIO) -> bool:
    """Walk the markers up to "end of image"; what phones append after it (films, maps) is not looked at."""
    with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        position = 2
        while found := _JPEG_MARKER.search(data, position):
            marker, position = found[1][0], found.end()
            if marker == 0xD9:
                return True
            if marker not in (0x01, 0xD8):
                position += max(2, int.from_bytes(data[position : position + 2], "big"))
    return False


def _upright(image: Image.Image) -> Image.Image:
    try:
        turn = _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a broken EXIF block says nothing about the pixels
        turn = None
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image, file_format: str) -> tuple[Image.Image, bool]:
    """The image in RGB, and whether its range was stretched."""
    if image.mode.startswith("I;16") or (image.mode == "I" and file_format in ("PNG", "PPM")):
        high_bytes = (np.asarray(image) >> 8).astype(np.uint8)
        return Image.fromarray(high_bytes).convert("RGB"), False
    if image.mode in ("I", "F"):
        return Image.fromarray(_stretch(np.asarray(image).astype(np.float64))).convert("RGB"), True
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


def _what_it_is(head: bytes) -> str:
    if _ACCEPTED.match(head):
        return "truncated or damaged in its header"
    for pattern, name in _REFUSED.items():
        if re.match(pattern, head, re.DOTALL):
            return f"format not allowed: {name}"
    return "not an image"


def _what_broke(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return reason_of(error)
    text = " ".join(str(error).split())
    if isinstance(error, EOFError) or re.search("truncat|incomplete|unexpected end", text, re.IGNORECASE):
        return f"truncated ({text})" if text else "truncated"
    return f"damaged ({text or type(error).__name__})"


@contextmanager
def _strict_pillow() -> Iterator[None]:
    """Pillow's process-wide switches as the rules need them, put back afterwards.

    Another library may have asked Pillow to fill cut images with grey. Pillow's own limit on pixels is off,
    because it raises before the size can be read; the check in ``_decode`` takes its place.
    """
    before = ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS
    ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = False, None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = before


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Stop a decoder that a crafted file keeps busy for ``seconds`` of processor time.

    Processor time, so that a slow disk or a busy machine never changes which files are left out. Without
    signals (Windows, another thread than the main one) there is no limit.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise _TooSlowError

    handler = signal.signal(signal.SIGPROF, stop)
    remaining, _ = signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, remaining)
        signal.signal(signal.SIGPROF, handler)
