"""One file at a time: what each kind of image becomes, and why a bad one is left out."""

from __future__ import annotations

import io
import os
import re
import signal
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from twoviews.dataset import decode as decode_module
from twoviews.dataset.decode import Decoded, decode_batch
from twoviews.dataset.scan import FoundFile
from twoviews.errors import ResourceError

SIZE = 32
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def decode(folder: Path, content: bytes, name: str = "x.jpg", size: int = SIZE, max_pixels: int = 10**6) -> Decoded:
    path = folder / name
    path.write_bytes(content)
    status = path.stat()
    found = FoundFile(name, status.st_size, status.st_mtime_ns)
    return decode_batch(str(folder), [found], size, max_pixels)[0]


def noise(height: int = SIZE, width: int = SIZE) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def smooth(height: int, width: int) -> Image.Image:
    """A picture that survives JPEG: a quarter of its corners differ in colour."""
    rows, columns = np.mgrid[0:height, 0:width]
    bands = [rows * 255 // height, columns * 255 // width, (rows + columns) * 255 // (height + width)]
    return Image.fromarray(np.stack(bands, axis=2).astype(np.uint8))


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def as_image(decoded: Decoded) -> np.ndarray:
    assert decoded.pixels is not None, decoded.reason
    assert decoded.pixels.dtype == np.uint8
    assert decoded.pixels.shape[0] == 3
    return decoded.pixels.transpose(1, 2, 0)


def color_at(decoded: Decoded, row: int = SIZE // 2, column: int = SIZE // 2) -> tuple[int, ...]:
    return tuple(int(v) for v in as_image(decoded)[row, column])


# Accepted


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF"])
def test_a_square_of_the_right_size_keeps_its_pixels_whatever_the_name(tmp_path: Path, kind: str) -> None:
    assert np.array_equal(as_image(decode(tmp_path, saved(noise(), kind), "x.jpg")), np.asarray(noise()))


def test_webp_and_gif_first_frame(tmp_path: Path) -> None:
    assert np.array_equal(as_image(decode(tmp_path, saved(noise(), "WEBP", lossless=True))), np.asarray(noise()))
    first, second = (Image.new("RGB", (SIZE, SIZE), color).convert("P") for color in (RED, BLUE))
    assert color_at(decode(tmp_path, saved(first, "GIF", save_all=True, append_images=[second]))) == RED


def test_the_centre_square_is_taken(tmp_path: Path) -> None:
    image = Image.new("RGB", (SIZE + 20, SIZE), BLUE)
    image.paste(noise(), (10, 0))
    assert np.array_equal(as_image(decode(tmp_path, saved(image, "PNG"))), np.asarray(noise()))
    assert as_image(decode(tmp_path, saved(image.transpose(Image.Transpose.ROTATE_90), "PNG"))).shape == (
        SIZE,
        SIZE,
        3,
    )


def test_shrinking_is_antialiased_and_growing_works(tmp_path: Path) -> None:
    stripes = np.zeros((4 * SIZE, 4 * SIZE, 3), np.uint8)
    stripes[::2] = 255
    shrunk = as_image(decode(tmp_path, saved(Image.fromarray(stripes), "PNG")))
    assert np.abs(shrunk[4:-4].astype(int) - 128).max() <= 3
    assert color_at(decode(tmp_path, saved(Image.new("RGB", (9, 8), GREEN), "PNG"))) == GREEN


def test_a_large_jpeg_is_the_same_picture_as_without_the_shortcut(tmp_path: Path) -> None:
    content = saved(smooth(700, 1000), "JPEG", quality=95)
    ours = as_image(decode(tmp_path, content))
    with Image.open(io.BytesIO(content)) as image:
        plain = image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=(150, 0, 850, 700))
    assert np.abs(ours.astype(int) - np.asarray(plain).astype(int)).max() <= 6


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, kind: str, orientation: int) -> None:
    # Where (top-left, top-right, bottom-right, bottom-left) of the upright picture are stored, by EXIF.
    stored = {1: "abcd", 2: "badc", 3: "cdab", 4: "dcba", 5: "adcb", 6: "bcda", 7: "cbad", 8: "dabc"}[orientation]
    colors = {"a": RED, "b": GREEN, "c": BLUE, "d": WHITE}
    half = SIZE // 2
    image = Image.new("RGB", (SIZE, SIZE))
    for letter, place in zip(stored, [(0, 0), (half, 0), (half, half), (0, half)], strict=True):
        image.paste(colors[letter], (*place, place[0] + half, place[1] + half))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind == "JPEG" else {}
    result = decode(tmp_path, saved(image, kind, exif=exif, **options))
    for letter, (row, column) in zip("abcd", [(5, 5), (5, 26), (26, 26), (26, 5)], strict=True):
        assert np.abs(np.subtract(color_at(result, row, column), colors[letter])).max() <= 3


def test_orientation_of_a_wide_picture_is_applied_before_the_crop(tmp_path: Path) -> None:
    upright = smooth(97, 40)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = saved(upright.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)
    assert np.array_equal(as_image(decode(tmp_path, turned)), as_image(decode(tmp_path, saved(upright, "PNG"))))


def test_a_broken_exif_block_is_orientation_1(tmp_path: Path) -> None:
    content = saved(smooth(SIZE, SIZE), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff garbage")
    assert np.array_equal(
        as_image(decode(tmp_path, content)), as_image(decode(tmp_path, saved(smooth(SIZE, SIZE), "JPEG")))
    )


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_its_high_byte(tmp_path: Path, kind: str) -> None:
    values = np.linspace(0, 65535, SIZE * SIZE).astype(np.uint16).reshape(SIZE, SIZE)
    result = as_image(decode(tmp_path, saved(Image.fromarray(values), kind)))
    for channel in range(3):
        assert np.array_equal(result[:, :, channel], (values >> 8).astype(np.uint8))
    assert len(np.unique(result)) == 256


def test_big_endian_16_bit_tiff(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, SIZE * SIZE).astype(np.uint16).reshape(SIZE, SIZE)
    image = Image.frombytes("I;16B", (SIZE, SIZE), values.astype(">u2").tobytes())
    assert np.array_equal(as_image(decode(tmp_path, saved(image, "TIFF")))[:, :, 0], (values >> 8).astype(np.uint8))


def test_float_and_32_bit_are_stretched_and_say_so(tmp_path: Path) -> None:
    values = np.linspace(-3.0, 5.0, SIZE * SIZE).reshape(SIZE, SIZE)
    expected = np.rint((values + 3.0) / 8.0 * 255)
    for array in (values.astype(np.float32), (values * 1e6).astype(np.int32)):
        result = decode(tmp_path, saved(Image.fromarray(array), "TIFF"))
        assert result.stretched
        assert np.abs(as_image(result)[:, :, 0] - expected).max() <= 1
    values[0, 0] = np.inf
    assert (
        np.abs(
            as_image(decode(tmp_path, saved(Image.fromarray(values.astype(np.float32)), "TIFF")))[1:, :, 1]
            - expected[1:]
        ).max()
        <= 1
    )
    values[0, 0] = np.nan
    assert "NaN" in decode(tmp_path, saved(Image.fromarray(values.astype(np.float32)), "TIFF")).reason


def test_transparent_pixels_lie_on_white(tmp_path: Path) -> None:
    hidden = Image.new("RGBA", (SIZE, SIZE), (255, 0, 0, 0))
    half = Image.new("RGBA", (SIZE, SIZE), (255, 0, 0, 128))
    assert color_at(decode(tmp_path, saved(hidden, "PNG"))) == WHITE
    assert color_at(decode(tmp_path, saved(half, "PNG"))) == (255, 127, 127)
    assert color_at(decode(tmp_path, saved(hidden, "WEBP", lossless=True, exact=True))) == WHITE
    assert color_at(decode(tmp_path, saved(Image.new("LA", (SIZE, SIZE), (0, 0)), "PNG"))) == WHITE
    palette = Image.new("P", (SIZE, SIZE), 0)
    palette.putpalette([*RED, *BLUE])
    assert color_at(decode(tmp_path, saved(palette, "PNG"))) == RED
    assert color_at(decode(tmp_path, saved(palette, "PNG", transparency=0))) == WHITE
    assert color_at(decode(tmp_path, saved(palette, "GIF", transparency=0))) == WHITE
    keyed = Image.new("RGB", (SIZE, SIZE), RED)
    assert color_at(decode(tmp_path, saved(keyed, "PNG", transparency=RED))) == WHITE


def test_cmyk_has_its_colors(tmp_path: Path) -> None:
    cyan = Image.new("CMYK", (SIZE, SIZE), (255, 0, 0, 0))
    assert color_at(decode(tmp_path, saved(cyan, "TIFF"))) == (0, 255, 255)
    # Pillow writes CMYK JPEGs as Adobe does, inverted.
    assert np.abs(np.subtract(color_at(decode(tmp_path, saved(cyan, "JPEG", quality=95))), (0, 255, 255))).max() <= 3


def test_other_color_modes(tmp_path: Path) -> None:
    assert color_at(decode(tmp_path, saved(Image.new("1", (SIZE, SIZE), 1), "PNG"))) == WHITE
    assert color_at(decode(tmp_path, saved(Image.new("L", (SIZE, SIZE), 77), "JPEG"))) == (77, 77, 77)
    ycbcr = Image.new("RGB", (SIZE, SIZE), RED).convert("YCbCr")
    assert np.abs(np.subtract(color_at(decode(tmp_path, saved(ycbcr, "TIFF"))), RED)).max() <= 3
    lab = Image.new("LAB", (SIZE, SIZE), (255, 128, 128))
    assert np.abs(np.subtract(color_at(decode(tmp_path, saved(lab, "TIFF"))), WHITE)).max() <= 8


def test_what_phones_append_to_a_jpeg_is_no_fault(tmp_path: Path) -> None:
    film = b"\0\0\0\x18ftypmp42" + np.random.default_rng(0).bytes(200_000) + b"\xff\xda\x00"
    assert decode(tmp_path, saved(noise(), "JPEG") + film).pixels is not None


def test_fill_bytes_before_a_jpeg_marker_are_no_fault(tmp_path: Path) -> None:
    plain = saved(noise(), "JPEG")
    tables = plain.index(b"\xff\xdb")
    filled = plain[:tables] + b"\xff" * 3 + plain[tables:-2] + b"\xff" * 2 + plain[-2:]
    assert np.array_equal(as_image(decode(tmp_path, filled)), as_image(decode(tmp_path, plain)))
    assert re.search("truncated", decode(tmp_path, filled[:-1]).reason)


def test_progressive_jpeg(tmp_path: Path) -> None:
    assert decode(tmp_path, saved(smooth(100, 100), "JPEG", progressive=True)).pixels is not None


# Left out


def png_with_bad_checksum() -> bytes:
    content = bytearray(saved(noise(), "PNG"))
    place = content.index(b"IDAT")
    (length,) = struct.unpack(">I", content[place - 4 : place])
    content[place + 4 + length] ^= 0xFF
    return bytes(content)


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


JPEG = saved(noise(200, 200), "JPEG")
PNG = saved(noise(200, 200), "PNG")
BAD = {
    "JPEG cut at 10 bytes": (JPEG[:10], "truncated"),
    "JPEG cut at half": (JPEG[: len(JPEG) // 2], "truncated"),
    "JPEG without its last 2 bytes": (JPEG[:-2], "truncated"),
    "JPEG whose second half is zeros": (JPEG[: len(JPEG) // 2] + b"\0" * len(JPEG), "truncated"),
    "PNG cut at 10 bytes": (PNG[:10], "truncated"),
    "PNG cut at half": (PNG[: len(PNG) // 2], "truncated"),
    "PNG without its last chunk": (PNG[:-12], "truncated|damaged"),
    "PNG with a wrong checksum": (png_with_bad_checksum(), "damaged.*checksum"),
    "WebP cut at half": (saved(noise(200, 200), "WEBP", lossless=True)[:20_000], "truncated|damaged"),
    "GIF cut at half": (saved(noise(200, 200).convert("P"), "GIF")[:9_000], "truncated"),
    "BMP cut at half": (saved(noise(200, 200), "BMP")[:50_000], "truncated"),
    "PPM cut at half": (saved(noise(200, 200), "PPM")[:50_000], "truncated"),
    "TIFF cut at half": (saved(noise(200, 200), "TIFF")[:50_000], "truncated|damaged"),
    "HTML": (b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "^not an image$"),
    "text": (b"hello", "^not an image$"),
    "EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "format not allowed: EPS"),
    "PSD": (b"8BPS\0\1" + b"\0" * 60, "format not allowed: PSD"),
    "ICO": (saved(noise(), "ICO"), "format not allowed: ICO"),
    "PDF": (b"%PDF-1.7\n", "format not allowed: PDF"),
    "HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "format not allowed: HEIC"),
    "JPEG 2000": (saved(noise(), "JPEG2000"), "format not allowed: JPEG 2000"),
    "too small": (saved(noise(9, 7), "PNG"), r"too small \(7×9 pixels"),
    "one row": (saved(noise(1, 5000), "PNG"), "too small"),
    "bomb": (png_header(30_000, 30_000), r"900 MP > 1 MP limit \(--max-pixels\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_left_out_with_their_reason(tmp_path: Path, case: str) -> None:
    content, expected = BAD[case]
    result = decode(tmp_path, content)
    assert result.pixels is None
    assert re.search(expected, result.reason), result.reason
    assert "\n" not in result.reason


def test_a_cut_file_is_left_out_even_where_another_library_lets_pillow_fill_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    assert decode(tmp_path, PNG[: len(PNG) // 2]).pixels is None
    assert decode(tmp_path, PNG).pixels is not None
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True
    assert Image.MAX_IMAGE_PIXELS == 5


@pytest.mark.parametrize("options", [{}, {"restart_marker_blocks": 4}, {"optimize": True, "subsampling": 0}])
@pytest.mark.parametrize("size", [SIZE, 200])
def test_a_jpeg_that_was_cut_and_given_an_end_marker_is_found(
    tmp_path: Path, options: dict[str, Any], size: int
) -> None:
    """The library fills it with grey and says nothing; grey that is in the file is another matter."""
    for image in (noise(203, 217), noise(203, 217).convert("L")):
        content = saved(image, "JPEG", **options)
        scan = content.index(b"\xff\xda") + 14
        for share in (0.02, 0.3, 0.7, 0.99):
            cut = content[: scan + int((len(content) - scan) * share)] + b"\xff\xd9"
            assert "truncated" in decode(tmp_path, cut, size=size).reason, (image.mode, share)
        image.paste(image.resize((1, 1)).point(lambda value: 128).resize((60, 60)), (180, 150))
        assert decode(tmp_path, saved(image, "JPEG", **options), size=size).pixels is not None


def test_a_progressive_jpeg_without_its_last_scans_is_kept(tmp_path: Path) -> None:
    """It is the whole picture with less detail, with no grey in it."""
    content = saved(smooth(200, 200), "JPEG", progressive=True, quality=95)
    cut = content[: content.rindex(b"\xff\xda")] + b"\xff\xd9"
    whole, less = (as_image(decode(tmp_path, one)).astype(int) for one in (content, cut))
    assert np.abs(whole - less).max() < 10


def test_files_that_change_or_go_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(PNG)
    status = (tmp_path / "x.png").stat()
    shorter = FoundFile("x.png", status.st_size - 1, status.st_mtime_ns)
    older = FoundFile("x.png", status.st_size, status.st_mtime_ns - 1)
    gone = FoundFile("gone.png", 5, 5)
    reasons = [result.reason for result in decode_batch(str(tmp_path), [shorter, older, gone], SIZE, 10**6)]
    assert reasons == ["changed while it was read"] * 2 + ["deleted while the folder was read"]


def test_a_file_that_changes_under_the_decoder_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upright = decode_module._upright

    def meanwhile(image: Image.Image) -> Image.Image:
        with open(tmp_path / "x.jpg", "ab") as stream:
            stream.write(b"more")
        return upright(image)

    monkeypatch.setattr(decode_module, "_upright", meanwhile)
    assert decode(tmp_path, PNG).reason == "changed while it was read"


def test_a_lack_of_memory_is_no_fault_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(image: Image.Image) -> Image.Image:
        raise MemoryError

    monkeypatch.setattr(decode_module, "_upright", refuse)
    with pytest.raises(ResourceError, match=r"Not enough memory to decode .*x\.jpg: .*--max-pixels"):
        decode(tmp_path, PNG)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_in_a_files_place_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.jpg")
    assert decode_batch(str(tmp_path), [FoundFile("x.jpg", 5, 5)], SIZE, 10**6)[0].pixels is None


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(decode_module.os, "open", refuse)
    (tmp_path / "x.png").write_bytes(PNG)
    assert decode_batch(str(tmp_path), [FoundFile("x.png", 5, 5)], SIZE, 10**6)[0].reason == "permission denied"


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers here")
def test_a_decoder_that_is_kept_busy_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(image: Image.Image) -> Image.Image:
        while True:
            pass

    limit = decode_module.time_limit
    monkeypatch.setattr(decode_module, "time_limit", lambda seconds: limit(0.05))
    monkeypatch.setattr(decode_module, "_upright", busy)
    assert decode(tmp_path, PNG).reason == "takes too long to decode"
    assert signal.getitimer(signal.ITIMER_PROF)[0] == 0
