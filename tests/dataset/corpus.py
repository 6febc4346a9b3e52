"""Bad and odd images made by code, each with what must become of it: left out for a reason, or these pixels."""

from __future__ import annotations

import io
import os
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

SIZE = 32
RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)
CYAN, GREY = (0, 255, 255), (128, 128, 128)
Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Odd:
    """A file and its verdict.

    Attributes:
        name: of the file; bytes where it is no UTF-8.
        content: of the file.
        reason: what the reason for leaving it out holds (a pattern); "" where it is kept.
        pixels: SIZE×SIZE×3 of a kept file, or its one colour.
        within: how far a value may be off.
        either: it may be kept or left out, as long as one of the two happens.
    """

    name: str | bytes
    content: bytes
    reason: str = ""
    pixels: Picture | tuple[int, int, int] | None = None
    within: int = 0
    either: bool = False


def noise(height: int = SIZE, width: int = SIZE) -> Picture:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def corners() -> Picture:
    """Another colour in each corner, so that no turn or flip looks the same."""
    picture = np.zeros((SIZE, SIZE, 3), np.uint8)
    half = SIZE // 2
    picture[:half, :half], picture[:half, half:] = RED, GREEN
    picture[half:, half:], picture[half:, :half] = BLUE, WHITE
    return picture


def ramp(low: float, high: float) -> npt.NDArray[np.float64]:
    return np.linspace(low, high, SIZE * SIZE).reshape(SIZE, SIZE)


def grey(values: npt.NDArray[Any]) -> Picture:
    return np.repeat(values.astype(np.uint8)[:, :, None], 3, axis=2)


def saved(image: Image.Image | npt.NDArray[Any], kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(stream, kind, **options)
    return stream.getvalue()


def flat(mode: str, color: Any) -> Image.Image:
    return Image.new(mode, (SIZE, SIZE), color)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_chunk(png: bytes, kind: bytes, body: bytes) -> bytes:
    """A chunk more, right after the header (8 bytes of magic, 25 of IHDR)."""
    return png[:33] + chunk(kind, body) + png[33:]


@cache
def png_of_zeros(width: int, height: int) -> bytes:
    """A whole, valid, black PNG of any size, without the work of compressing it."""
    row = 1 + 3 * width
    rows_a_piece = 100
    assert height % rows_a_piece == 0
    press = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = press.compress(bytes(row * rows_a_piece)) + press.flush(zlib.Z_FULL_FLUSH)
    # After a full flush nothing refers back: one piece repeated is the whole, and the checksum of zeros is known.
    body = b"\x78\x01" + piece * (height // rows_a_piece) + b"\x03\x00"
    body += struct.pack(">HH", row * height % 65521, 1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def tiff(values: npt.NDArray[Any], *, sample_format: int, white_is_zero: bool = False, next_ifd: int = 0) -> bytes:
    """A grey TIFF, little endian, as laid down in the specification."""
    entries = {
        256: values.shape[1],
        257: values.shape[0],
        258: 8 * values.itemsize,
        259: 1,
        262: 0 if white_is_zero else 1,
        273: 8 + 2 + 12 * 10 + 4,
        277: 1,
        278: values.shape[0],
        279: values.nbytes,
        339: sample_format,
    }
    directory = struct.pack("<H", len(entries))
    directory += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries.items())
    return b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<I", next_ifd) + values.tobytes()


def gif_of_many_frames(count: int) -> bytes:
    first, second = (saved(flat("RGB", color).convert("P"), "GIF") for color in (RED, BLUE))
    palette = 13 + 3 * 2 ** ((first[10] & 7) + 1) if first[10] & 0x80 else 13
    blue = second[13 + 3 * 2 ** ((second[10] & 7) + 1) :] if second[10] & 0x80 else second[13:]
    assert first[palette:].endswith(b";")
    return first[:-1] + blue[:-1] * count + b";"


def jpeg_with(content: bytes, *, marker: int | None = None, bits: int | None = None) -> bytes:
    """The same JPEG with another kind of frame: 0xC9 is arithmetic coding, 12 bits need an extended frame."""
    place = content.index(b"\xff\xc0")
    changed = bytearray(content)
    if marker is not None:
        changed[place + 1] = marker
    if bits is not None:
        changed[place + 4] = bits
    return bytes(changed)


def damaged_checksum(png: bytes) -> bytes:
    place = png.index(b"IDAT")
    (length,) = struct.unpack(">I", png[place - 4 : place])
    end = place + 4 + length
    return png[:end] + bytes([png[end] ^ 0xFF]) + png[end + 1 :]


def upright_by_exif(orientation: int) -> bytes:
    """``corners`` stored turned, with the tag that turns it back."""
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(corners())
    stored = image.transpose(turn[orientation]) if orientation > 1 else image
    return saved(stored, "JPEG", quality=95, subsampling=0, exif=exif)


def left_out() -> Iterator[Odd]:
    """Files that can't be used; an empty one and what is no file are in ``build``."""
    jpeg, png = saved(noise(200, 200), "JPEG"), saved(noise(200, 200), "PNG")
    yield Odd("cut at 10 bytes.jpg", jpeg[:10], "truncated")
    yield Odd("cut at half.jpg", jpeg[: len(jpeg) // 2], "truncated")
    yield Odd("without its last 2 bytes.jpg", jpeg[:-2], "truncated")
    # The library that decodes it fills the rest with grey and says nothing.
    yield Odd("cut, with an end marker.jpg", jpeg[: len(jpeg) // 2] + b"\xff\xd9", "truncated")
    in_grey = saved(noise(200, 200)[:, :, 0].copy(), "JPEG")
    yield Odd("grey, cut, with an end marker.jpg", in_grey[: len(in_grey) // 3] + b"\xff\xd9", "truncated")
    yield Odd("zeros in its second half.jpg", jpeg[: len(jpeg) // 2] + bytes(len(jpeg)), "truncated")
    yield Odd("12 bits.jpg", jpeg_with(jpeg, marker=0xC1, bits=12), "kind that can't be read")
    yield Odd("bad checksum.png", damaged_checksum(png), "damaged.*checksum")
    yield Odd("cut at half.png", png[: len(png) // 2], "truncated")
    yield Odd("text bomb.png", with_chunk(png, b"zTXt", b"k\0\0" + zlib.compress(bytes(50_000_000))), "too large")
    yield Odd("bomb.png", png_of_zeros(30_000, 30_000), r"900 MP > 128 MP limit \(--max-pixels\)")
    yield Odd("page.jpg", b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "^not an image$")
    yield Odd("postscript.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "format not allowed: EPS")
    yield Odd("photoshop.jpg", b"8BPS\0\1" + bytes(60), "format not allowed: PSD")
    yield Odd("icon.png", saved(noise(), "ICO"), "format not allowed: ICO")
    yield Odd("animator.png", struct.pack("<IHHHHH", 1000, 0xAF12, 1, 32, 32, 8) + bytes(100), "not allowed: FLI")
    yield Odd("phone.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC.*convert")
    yield Odd("phone.avif", b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf", "AVIF.*convert")
    nan = ramp(0, 1).astype(np.float32)
    nan[3, 3] = np.nan
    yield Odd("not a number.tif", saved(nan, "TIFF"), "NaN")
    yield Odd("no finite pixel.tif", saved(np.full((SIZE, SIZE), np.inf, np.float32), "TIFF"), "finite")
    yield Odd("1x1.png", saved(noise(1, 1), "PNG"), r"too small \(1×1")
    yield Odd("1x5000.png", saved(noise(5000, 1), "PNG"), r"too small \(1×5000")
    yield Odd("7x9.png", saved(noise(9, 7), "PNG"), r"too small \(7×9")


def kept() -> Iterator[Odd]:
    """Odd files that a viewer shows, and what it shows."""
    picture = noise()
    yield Odd("a png.jpg", saved(picture, "PNG"), pixels=picture)
    for orientation in range(1, 9):
        yield Odd(f"exif {orientation}.jpg", upright_by_exif(orientation), pixels=corners(), within=10)
    broken = b"Exif\0\0MM\0*\xff\xff\xff\xff garbage"
    yield Odd("broken exif.jpg", saved(corners(), "JPEG", quality=95, subsampling=0, exif=broken), "", corners(), 10)

    deep = np.linspace(0, 65535, SIZE * SIZE).astype(np.uint16).reshape(SIZE, SIZE)
    bytes_of = grey(deep >> 8)
    yield Odd("16 bits.png", saved(deep, "PNG"), pixels=bytes_of)
    yield Odd("16 bits.tif", saved(deep, "TIFF"), pixels=bytes_of)
    big_endian = Image.frombytes("I;16B", (SIZE, SIZE), deep.astype(">u2").tobytes())
    yield Odd("16 bits, big endian.tif", saved(big_endian, "TIFF"), pixels=bytes_of)
    yield Odd("16 bits, white is zero.tif", tiff(deep, sample_format=1, white_is_zero=True), pixels=255 - bytes_of)
    hidden = np.full((SIZE, SIZE), 7000, np.uint16)
    yield Odd("16 bits, transparent.png", with_chunk(saved(hidden, "PNG"), b"tRNS", b"\x1b\x58"), pixels=WHITE)

    stretched = grey(np.rint(ramp(0, 255)))
    yield Odd("float.tif", saved(ramp(-3, 5).astype(np.float32), "TIFF"), pixels=stretched, within=1)
    yield Odd("signed 32 bits.tif", saved(ramp(-3e6, 5e6).astype(np.int32), "TIFF"), pixels=stretched, within=1)
    unsigned = ramp(0, 2**32 - 1).astype(np.uint32)
    yield Odd("unsigned 32 bits.tif", tiff(unsigned, sample_format=1), pixels=stretched, within=1)
    infinite = ramp(-3, 5).astype(np.float32)
    infinite[-1, -1] = np.inf
    yield Odd("infinite.tif", saved(infinite, "TIFF"), pixels=stretched, within=1)

    palette = flat("P", 0)
    palette.putpalette([*RED, *BLUE])
    yield Odd("palette.png", saved(palette, "PNG"), pixels=RED)
    yield Odd("palette, transparent.png", saved(palette, "PNG", transparency=0), pixels=WHITE)
    yield Odd("hidden red.png", saved(flat("RGBA", (255, 0, 0, 0)), "PNG"), pixels=WHITE)
    yield Odd("half red.png", saved(flat("RGBA", (255, 0, 0, 128)), "PNG"), pixels=(255, 127, 127))
    yield Odd("grey with alpha.png", saved(flat("LA", (0, 0)), "PNG"), pixels=WHITE)
    yield Odd("1 bit.png", saved(flat("1", 1), "PNG"), pixels=WHITE)
    yield Odd("1 bit.tif", saved(flat("1", 0), "TIFF", compression="group4"), pixels=BLACK)
    yield Odd("grey.jpg", saved(flat("L", 77), "JPEG"), pixels=(77, 77, 77))
    yield Odd("lab.tif", saved(flat("LAB", (255, 128, 128)), "TIFF"), pixels=WHITE, within=8)
    yield Odd("ycbcr.tif", saved(flat("RGB", RED).convert("YCbCr"), "TIFF"), pixels=RED, within=3)
    yield Odd("ycbcr.jpg", saved(flat("RGB", RED), "JPEG", quality=95), pixels=RED, within=3)
    yield Odd("rgb without ycbcr.jpg", saved(flat("RGB", RED), "JPEG", quality=95, keep_rgb=True), "", RED, 3)
    yield Odd("cmyk.tif", saved(flat("CMYK", (255, 0, 0, 0)), "TIFF"), pixels=CYAN)
    # As Adobe writes them, and so Pillow: every value turned round, which a naive reader shows as a negative.
    yield Odd("cmyk of adobe.jpg", saved(flat("CMYK", (255, 0, 0, 0)), "JPEG", quality=95), pixels=CYAN, within=3)
    cmyk_grey = saved(flat("CMYK", (0, 0, 0, 127)), "JPEG", quality=95)
    yield Odd("cmyk grey of adobe.jpg", cmyk_grey, pixels=GREY, within=3)
    # Of another colour space altogether: applied, it would change every pixel.
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    yield Odd("colour profile.png", saved(picture, "PNG", icc_profile=profile), pixels=picture)

    yield Odd("8x8.png", saved(flat("RGB", GREEN).resize((8, 8)), "PNG"), pixels=GREEN)
    yield Odd("1 to 100.png", saved(flat("RGB", GREEN).resize((16, 1600)), "PNG"), pixels=GREEN)
    yield Odd("100 to 1.jpg", saved(flat("RGB", GREEN).resize((1600, 16)), "JPEG"), pixels=GREEN, within=3)
    yield Odd(
        "progressive.jpg", saved(corners(), "JPEG", quality=95, subsampling=0, progressive=True), "", corners(), 10
    )
    yield Odd(
        "arithmetic.jpg", jpeg_with(saved(noise(200, 200), "JPEG"), marker=0xC9), "truncated|damaged", either=True
    )
    yield Odd("one colour.png", saved(flat("RGB", BLUE), "PNG"), pixels=BLUE)
    frames = {"save_all": True, "append_images": [flat("RGB", BLUE)]}
    yield Odd("animated.png", saved(flat("RGB", RED), "PNG", **frames), pixels=RED)
    yield Odd("animated.webp", saved(flat("RGB", RED), "WEBP", lossless=True, **frames), pixels=RED)
    yield Odd("10,000 frames.gif", gif_of_many_frames(10_000), pixels=RED)
    looped = tiff(deep, sample_format=1, next_ifd=8)
    yield Odd("pages in a loop.tif", looped, pixels=bytes_of)
    yield Odd("x.bmp", saved(picture, "BMP"), pixels=picture)
    yield Odd("x.ppm", saved(picture, "PPM"), pixels=picture)
    yield Odd("x.pgm", saved(bytes_of[:, :, 0].copy(), "PPM"), pixels=bytes_of)

    plain = saved(picture, "PNG")
    for name in ("żółć.png", "\U0001f408.png", "two\nlines.png", "'\"`$(id).png", "UPPER.JPG", "Mixed.JpEg"):
        yield Odd(name, plain, pixels=picture)
    for name in ("=cmd|' calc'!A0.png", "<img onerror=alert(1) src=x>.png", "\x1b[31mred.png", b"\xff\xfe.png"):
        yield Odd(name, plain, pixels=picture)
    for name in ("same.png", "SAME.png", "e\u0301.png", "\u00e9.png"):
        yield Odd(name, plain, pixels=picture)


@cache
def cases() -> tuple[Odd, ...]:
    return (*left_out(), *kept())


JUNK = (".DS_Store", "Thumbs.db", "._x.jpg", ".ipynb_checkpoints/x.png", "__MACOSX/x.png", "labels.csv", "X.JSON")


def build(root: Path) -> dict[str, str]:
    """Write the corpus into ``root/unlabeled``; the reason (a pattern) of what is there beside ``cases``."""
    folder = root / "unlabeled"
    folder.mkdir(parents=True)
    for case in cases():
        Path(os.fsdecode(os.path.join(os.fsencode(folder), os.fsencode(case.name)))).write_bytes(case.content)
    for name in JUNK:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(saved(noise(), "PNG"))
    reasons = dict.fromkeys(("empty.jpg", "\x1b[31mred\nempty.jpg"), "^empty file$")
    for name in reasons:
        (folder / name).write_bytes(b"")
    os.symlink("nowhere.png", folder / "dead link.jpg")
    reasons["dead link.jpg"] = "link that leads nowhere"
    os.symlink("round 2.jpg", folder / "round 1.jpg")
    os.symlink("round 1.jpg", folder / "round 2.jpg")
    os.symlink(".", folder / "loop", target_is_directory=True)  # a folder inside itself is read once, without a word
    reasons["round 1.jpg"] = reasons["round 2.jpg"] = "symbolic links"
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.jpg")
        reasons["pipe.jpg"] = "not a regular file"
    if hasattr(os, "geteuid") and os.geteuid() != 0:  # root may read everything
        (folder / "locked.png").write_bytes(saved(noise(), "PNG"))
        (folder / "locked.png").chmod(0)
        reasons["locked.png"] = "permission denied"
    return reasons


def matches(case: Odd, pixels: Picture) -> str:
    """What is wrong with a kept file's pixels (SIZE×SIZE×3); "" where nothing is."""
    if case.pixels is None:
        return ""
    off = np.abs(pixels.astype(int) - np.asarray(case.pixels, dtype=int)).max()
    return f"off by {off}" if off > case.within else ""


def fits(case: Odd, reason: str) -> bool:
    return bool(case.reason) and re.search(case.reason, reason) is not None
