"""Of long lists the first are named and the rest are counted, and none is lost between them."""

from __future__ import annotations

import pytest

from twoviews.listing import first_few


@pytest.mark.parametrize("length", range(9))
@pytest.mark.parametrize("most", [0, 1, 3])
def test_all_are_named_or_counted_and_one_is_never_only_counted(length: int, most: int) -> None:
    items = list(range(length))
    few, more = first_few(items, most)
    assert few == items[: len(few)]
    assert len(few) + more == length
    assert more != 1
    assert len(few) <= most + 1
