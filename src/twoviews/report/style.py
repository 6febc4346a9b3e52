"""How every figure looks, and how it becomes a picture: one type size, one palette, no pyplot state."""

from __future__ import annotations

import functools
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ParamSpec

from matplotlib import font_manager, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

P = ParamSpec("P")

# Petroff's ten: told apart with any of the common colour vision deficiencies, and in grey by lightness.
PALETTE = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)
# With more than ten classes the colours come round again with another shape: 100 pairs in all.
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*", "<", ">")

INK, MUTED, RULE = "#22262b", "#5b626b", "#dcdfe3"
BLUE, ORANGE = "#2466a8", "#c4560f"

# Colour, marker and dashes of a model wherever several share an axis; each of the three alone tells them apart.
LOOKS: dict[str, tuple[str, str, Any]] = {
    "supervised": (ORANGE, "s", (0, (5, 1.6))),
    "finetuned": (BLUE, "o", "-"),
    "linear_probe": ("#6b7480", "^", (0, (1.4, 1.4))),
}

# Inches. A page shows two HALF figures beside each other, or three THIRDs; type stays legible on a phone.
HALF, THIRD, FULL = 4.8, 3.15, 9.8

_FILE_DPI, _PAGE_DPI = 150, 144  # pixels an inch: of a PNG, and of what is pixels in an SVG
_NO_DATE: dict[str, Any] = {"Date": None, "Creator": None}

_FALLBACK_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Hiragino Sans",
    "Microsoft YaHei",
    "Malgun Gothic",
    "Arial Unicode MS",
    "Noto Sans",
    "Noto Sans Arabic",
    "Noto Sans Devanagari",
)


@functools.lru_cache(maxsize=1)
def _settings() -> Any:
    installed = set(font_manager.get_font_names())
    return {
        # DejaVu comes with matplotlib, so figures look the same everywhere; others add its missing scripts.
        "font.family": ["DejaVu Sans", *(name for name in _FALLBACK_FONTS if name in installed)],
        "font.size": 9.5,
        "text.color": INK,
        # A class may be called "$5": names are text, never formulas.
        "text.parse_math": False,
        "text.usetex": False,
        "axes.titlesize": 10.5,
        "axes.titlelocation": "left",
        "axes.titlepad": 8,
        "axes.labelsize": 9.5,
        "axes.labelcolor": MUTED,
        "axes.edgecolor": "#9aa1aa",
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "grid.color": RULE,
        "grid.linewidth": 0.7,
        "xtick.color": "#9aa1aa",
        "ytick.color": "#9aa1aa",
        "xtick.labelcolor": MUTED,
        "ytick.labelcolor": MUTED,
        "xtick.labelsize": 9,
        "ytick.labelsize": 9,
        "xtick.major.size": 3,
        "ytick.major.size": 0,
        "legend.frameon": False,
        "legend.fontsize": 9,
        "lines.linewidth": 1.8,
        "lines.solid_capstyle": "round",
        "figure.facecolor": "white",
        "savefig.facecolor": "auto",
        # A user's own matplotlibrc must not lay out what was laid out.
        "figure.autolayout": False,
        "figure.constrained_layout.use": False,
        "svg.fonttype": "path",
        "svg.hashsalt": "twoviews",
    }


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Run a drawing function with the figures' style, leaving matplotlib's own settings as they were."""

    @functools.wraps(draw)
    def inner(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with rc_context(_settings()):
            return draw(*args, **kwargs)

    return inner


# Control characters, half surrogate pairs, direction overrides: invalid in XML, or able to reorder text.
_UNSHOWABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\u202a-\u202e\u2066-\u2069]")


def showable(text: str) -> str:
    """The text with characters that no page or picture can carry replaced by �."""
    return _UNSHOWABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def short(name: object, longest: int = 18) -> str:
    """A name in one line for use in a figure; of a long one the middle is left out, since ends tell apart."""
    text = " ".join(showable(str(name)).split())
    return text if len(text) <= longest else f"{text[: longest - 1 - longest // 3]}…{text[-(longest // 3) :]}"


def short_names(names: Sequence[object], longest: int = 18) -> list[str]:
    """Names of classes, the long ones cut at their end; those that would then look alike lose their middle instead."""
    whole = [short(name, 10_000) for name in names]
    cut = [name if len(name) <= longest else f"{name[: longest - 1].rstrip()}…" for name in whole]
    alike = Counter(cut)
    return [one if alike[one] == 1 else short(name, longest) for one, name in zip(cut, whole, strict=True)]


def sheet(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A new figure of so many inches, and its axes row by row."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, [axis for row in axes for axis in row]


@contextmanager
def _laid_out(figure: Figure, dpi: int) -> Iterator[None]:
    """Where things are is worked out once here, for all pictures made inside: matplotlib would draw twice for each."""
    engine, before = figure.get_layout_engine(), figure.dpi
    with rc_context(_settings()):
        try:
            if engine is not None:
                figure.dpi = dpi
                engine.execute(figure)
                figure.set_layout_engine(None)
            yield
        finally:
            figure.dpi = before
            figure.set_layout_engine(engine)


def png_and_svg(figure: Figure) -> tuple[bytes, bytes]:
    """The figure on white, as pixels and as shapes; the same figure drawn anew gives the same bytes."""
    pixels, shapes = io.BytesIO(), io.BytesIO()
    with _laid_out(figure, _FILE_DPI):
        figure.savefig(pixels, format="png", dpi=_FILE_DPI, metadata={"Software": None})
        figure.savefig(shapes, format="svg", dpi=_FILE_DPI, metadata=_NO_DATE)
    return pixels.getvalue(), shapes.getvalue()


def svg(figure: Figure) -> bytes:
    """The figure as SVG without a background, for the page; the same figure gives the same bytes."""
    stream = io.BytesIO()
    with _laid_out(figure, _PAGE_DPI):
        figure.savefig(stream, format="svg", dpi=_PAGE_DPI, transparent=True, metadata=_NO_DATE)
    return stream.getvalue()
