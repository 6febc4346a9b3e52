"""Numbers as the page writes them never say more than they are."""

from __future__ import annotations

import pytest

from twoviews.report.number_words import p_value, percent, signed_range


@pytest.mark.parametrize(
    ("fraction", "digits", "text"),
    [
        (0.614, 1, "61.4%"),
        (1.0, 1, "100.0%"),
        (0.0, 0, "0%"),
        (0.9996, 1, "99.96%"),  # 4 of 10,000 are wrong
        (0.996, 0, "99.6%"),
        (0.0004, 1, "0.04%"),
        (1e-9, 1, "0.0%"),
        (1 - 1e-9, 0, "100%"),
    ],
)
def test_nearly_all_is_not_all(fraction, digits, text):
    assert percent(fraction, digits) == text


@pytest.mark.parametrize(
    ("ends", "text"),
    [
        ([4.6, 8.2], "+4.6 to +8.2"),
        ([0.051, 0.149], "+0.05 to +0.15"),
        ([-0.04, 3.0], "−0.04 to +3.00"),
        ([-0.18, 0.18], "−0.18 to +0.18"),
        (None, "–"),
    ],
)
def test_a_narrow_interval_keeps_its_width(ends, text):
    assert signed_range(ends) == text


def test_a_p_below_the_level_is_not_printed_as_the_level():
    assert [p_value(p) for p in (0.0492, 0.0499, 0.05, 0.0502)] == ["p = 0.049", "p < 0.05", "p = 0.050", "p = 0.050"]
