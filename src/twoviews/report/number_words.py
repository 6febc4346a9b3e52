"""How numbers are written on the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twoviews.report.values import dig, number, pair

NONE = "–"


def percent(value: Any, digits: int = 1) -> str:
    """A fraction as percent: 0.614 → 61.4%; with up to two digits more where nearly all would be written as all."""
    found = number(value)
    if found is None:
        return NONE
    texts = [f"{100 * found:.{more}f}%" for more in range(digits, digits + 3)]
    if found in (0.0, 1.0):
        return texts[0]
    return next((text for text in texts if float(text[:-1]) not in (0.0, 100.0)), texts[0])


def balanced_differs(row: Any) -> bool:
    """Whether a model's balanced accuracy is another figure than its accuracy, as it is where classes are uneven."""
    balanced, top1 = number(dig(row, "balanced_accuracy")), number(dig(row, "test_top1"))
    return balanced is not None and top1 is not None and abs(balanced - top1) > 1e-9


def with_deviation(row: Any) -> str:
    """A model's test accuracy with its standard deviation, where it has one: 61.4% ± 0.8."""
    spread = number(dig(row, "std"))
    return percent(dig(row, "test_top1")) + ("" if spread is None else f" ± {100 * spread:.1f}")


def digits_for(values: Sequence[float]) -> int:
    """Digits after the point: one; two where one would write as zero what isn't, or two ends as equal that differ."""
    is_narrow = len(values) > 1 and max(values) - min(values) < 1
    return 2 if is_narrow or any(value and abs(value) < 0.05 for value in values) else 1


def signed_range(value: Any) -> str:
    """An interval of differences: +4.6 to +8.2; +0.05 to +0.15."""
    ends = pair(value)
    return NONE if ends is None else " to ".join(signed(end, digits_for(ends)) for end in ends)


def percent_range(value: Any) -> str:
    """An interval of fractions in percent: 59.2 – 63.6."""
    ends = pair(value)
    return NONE if ends is None else f"{100 * ends[0]:.1f} – {100 * ends[1]:.1f}"


def signed(value: Any, digits: int = 1) -> str:
    """A number with its sign, and a true minus: +6.4."""
    found = number(value)
    if found is None:
        return NONE
    text = f"{found:+.{digits}f}"
    return text[1:] if not float(text) else text.replace("-", "−")


def decimal(value: Any) -> str:
    """A number with three digits, and a true minus: 0.412."""
    found = number(value)
    # Adding zero turns the -0.0 that rounding leaves into 0.0.
    return NONE if found is None else f"{round(found, 3) + 0.0:.3f}".replace("-", "−")


def count(value: Any) -> str:
    """A whole number with thousands apart: 10,000."""
    found = number(value)
    return NONE if found is None else f"{found:,.0f}"


def p_value(value: Any) -> str:
    """How a p-value is quoted: p = 0.031, p < 0.001."""
    found = number(value)
    if found is None:
        return f"p {NONE}"
    if 0.0495 <= found < 0.05:
        return "p < 0.05"  # three digits would write it as the level that it is below
    return "p < 0.001" if found < 0.001 else f"p = {found:.3f}" if found < 0.1 else f"p = {found:.2f}"


def bare_p(value: Any) -> str:
    """A p-value as the cell of a table: 0.031, < 0.001."""
    return NONE if number(value) is None else p_value(value).removeprefix("p ").removeprefix("= ")


def duration(value: Any) -> str:
    """Seconds as people say them: 45 s, 3 min 20 s, 1 h 12 min."""
    found = number(value)
    if found is None:
        return NONE
    if found < 59.5:
        return f"{found:.0f} s" if found >= 10 else f"{found:.1f} s"
    seconds = round(found)
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    minutes = round(found / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def joined(parts: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def path_for_command(path: Path) -> str:
    """A path as a command takes it, without the folders above the one commands run in."""
    full = path.resolve()
    try:
        return full.relative_to(Path.cwd()).as_posix()
    except ValueError:
        return full.name
