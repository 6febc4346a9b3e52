"""Take the pictures of a report that README and docs show: light, dark, and on a phone.

    python tools/screenshots.py RUN [OUT]

RUN is a finished run folder, such as that of ``twoviews study sample``; its page is drawn anew in a temporary folder,
so that the pictures are of the page as this version draws it and RUN stays as it is. OUT, by default docs/images,
gets report.png, report-dark.png and report-phone.png: the first screen, on a phone the maps' beside it, each below
300 kB. ``--whole`` adds report-whole.png, report-whole-dark.png and report-whole-phone.png: the page from top to
bottom.

Needs playwright (``pip install -e '.[dev]'``) and an installed Chromium; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from twoviews.errors import TwoviewsError
from twoviews.files import write_bytes
from twoviews.report.page import write_report

ROOT = Path(__file__).parent.parent
MOST_BYTES = 300_000
TALLEST = 16_000  # pixels of a picture of the whole page; Chromium's canvas ends at 16,384
COLOURS = (256, 128)  # of the palette, tried in turn
SMALLER = (1.0, 0.8, 0.64)  # of the pixels taken, tried in turn
PATIENCE = 180_000  # milliseconds


@dataclass(frozen=True)
class Look:
    """A screen: what its picture is called, its size in CSS pixels, pixels of the picture for each of these."""

    suffix: str
    width: int
    height: int
    scale: float
    scheme: str = "light"
    is_phone: bool = False


LOOKS = (
    Look("", 1280, 1000, 1.25),
    Look("-dark", 1280, 1000, 1.25, "dark"),
    Look("-phone", 390, 844, 2, is_phone=True),
)

# Once in the page: everything that will be on the picture is there, and has been painted.
SETTLED = """async () => {
    await document.fonts.ready;
    await Promise.all([...document.images].map((image) => image.decode().catch(() => null)));
    for (let i = 0; i < 2; i++) await new Promise((next) => requestAnimationFrame(next));
}"""

SCROLLED = """() => {
    const maps = document.querySelector(".ex-maps");
    if (maps) maps.scrollIntoView();
    window.scrollBy(0, maps ? -16 : window.innerHeight);
}"""


def find_browser(named: str | None) -> str:
    """The Chromium to use."""
    for name in [named] if named else ["chromium", "chromium-browser", "google-chrome"]:
        found = shutil.which(name)
        if found:
            return found
    sys.exit(f"error: {named or 'Chromium'} is not installed; name a browser with --browser.")


def shots(browser: Any, page_file: Path, whole: bool) -> Iterator[tuple[str, Image.Image]]:
    """Name and pixels of each picture."""
    for look in LOOKS:
        context = browser.new_context(
            offline=True,
            viewport={"width": look.width, "height": look.height},
            device_scale_factor=look.scale,
            color_scheme=look.scheme,
            reduced_motion="reduce",
            is_mobile=look.is_phone,
            has_touch=look.is_phone,
        )
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        problems: list[str] = []
        page.on("pageerror", lambda error, problems=problems: problems.append(str(error)))
        page.goto(page_file.as_uri())
        # The page of a run that has nothing to explore has no such part.
        if page.query_selector("#explore"):
            page.wait_for_selector("#explore[data-ready]")
        page.evaluate(SETTLED)
        first = opened(page.screenshot())
        yield f"report{look.suffix}", beside(first, second_screen(page)) if look.is_phone else first
        if whole:
            height = min(page.evaluate("document.documentElement.scrollHeight"), TALLEST / look.scale)
            clip = {"x": 0, "y": 0, "width": look.width, "height": height}
            yield f"report-whole{look.suffix}", opened(page.screenshot(full_page=True, clip=clip))
        context.close()
        if problems:
            sys.exit(f"error: the page's script failed: {problems[0]}")


def second_screen(page: Any) -> Image.Image:
    """What a phone shows once the reader has scrolled to the maps, or one screen down where there are none."""
    page.evaluate(SCROLLED)
    page.evaluate(SETTLED)
    return opened(page.screenshot())


def beside(left: Image.Image, right: Image.Image) -> Image.Image:
    """Two screens in one picture, a grey gap between them."""
    gap = left.width // 16
    both = Image.new("RGB", (left.width + gap + right.width, left.height), "#8b929a")
    both.paste(left, (0, 0))
    both.paste(right, (left.width + gap, 0))
    return both


def opened(content: bytes) -> Image.Image:
    """A screenshot's pixels."""
    return Image.open(io.BytesIO(content), formats=["PNG"]).convert("RGB")


def compressed(picture: Image.Image, most: int | None = MOST_BYTES) -> bytes:
    """The picture as a PNG of few colours; with fewer colours, then fewer pixels, until it is small enough.

    Raises:
        ValueError: it stays too large.
    """
    for scale in SMALLER:
        size = (round(picture.width * scale), round(picture.height * scale))
        small = picture if scale == 1 else picture.resize(size, Image.Resampling.LANCZOS)
        for colours in COLOURS:
            # Without dithering: flat grounds stay flat, and pack well. Fewer colours would take some from the classes.
            few = small.quantize(colours, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
            stream = io.BytesIO()
            few.save(stream, "PNG", optimize=True)
            if most is None or stream.tell() <= most:
                return stream.getvalue()
    raise ValueError(f"a picture of {picture.width}×{picture.height} pixels stays above {most:,} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path, nargs="?", default=ROOT / "docs/images")
    parser.add_argument("--browser", help="a Chromium, by its name or path")
    parser.add_argument("--whole", action="store_true", help="the whole page too")
    arguments = parser.parse_args()
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        sys.exit("error: playwright is not installed; pip install -e '.[dev]'.")
    found = find_browser(arguments.browser)
    with tempfile.TemporaryDirectory() as folder:
        try:
            page = write_report(arguments.run, Path(folder) / "report.html")
            with sync_playwright() as playwright:
                # Without the sandbox, which containers often lack: the page is our own, from disk, and offline.
                browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
                for name, picture in shots(browser, page, arguments.whole):
                    content = compressed(picture, None if "whole" in name else MOST_BYTES)
                    write_bytes(arguments.out / f"{name}.png", content)
                    with Image.open(io.BytesIO(content), formats=["PNG"]) as kept:
                        size = f"{kept.width}×{kept.height}"
                    print(f"{arguments.out / name}.png: {size}, {len(content) / 1000:.0f} kB", flush=True)
                browser.close()
        except TwoviewsError as error:
            sys.exit(f"error: {error}")
        except Error as error:
            sys.exit(f"error: {found} failed: {str(error).splitlines()[0]}")


if __name__ == "__main__":
    main()
