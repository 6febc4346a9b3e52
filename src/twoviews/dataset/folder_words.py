"""What is said of a folder of images: which files were left out, and what is missing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from twoviews.dataset.decode import FORMATS_TEXT
from twoviews.dataset.decode_cache import DecodedFolder
from twoviews.dataset.images import Skipped
from twoviews.dataset.parts import LABELLED
from twoviews.dataset.scan import Scan, name_order
from twoviews.errors import DataError
from twoviews.listing import first_few

_SHOWN = 10


def not_pictures(count: int) -> list[str]:
    """The note on so many files which are no pictures by their names, where there are any."""
    if not count:
        return []
    are = "file that is no picture by its name was" if count == 1 else "files that are no pictures by their names were"
    return [f"{count:,} {are} left out."]


def shown(names: set[str] | tuple[str, ...]) -> str:
    ordered = [ascii(name)[1:-1] if not name.isprintable() else name for name in sorted(names, key=name_order)]
    few, more = first_few(ordered, _SHOWN)
    return (", ".join(few) + (f" and {more} more" if more else "")) or "none"


def nothing_in(folder: Path, part: str) -> str:
    below = "" if part == "unlabeled" else " in its class folders"
    return f"{folder} holds no readable image{below} ({FORMATS_TEXT}): put some there, or name another folder."


def refuse_many_bad(skipped: list[Skipped], good: int, max_bad: float) -> None:
    total = good + len(skipped)
    if len(skipped) <= max_bad * total:
        return
    kinds = Counter(item.reason.partition(" (")[0] for item in skipped).most_common(4)
    listed = ", ".join(f"{count:,} {kind}" for kind, count in kinds)
    raise DataError(
        f"{len(skipped):,} of {total:,} files can't be used ({listed}), first "
        f"{ascii(skipped[0].path)[1:-1]}: {skipped[0].reason}. Remove them, or allow more than {max_bad:.3g} "
        "of all files with --max-bad."
    )


def notes(
    found: dict[str, Scan],
    decoded: dict[str, DecodedFolder],
    present: dict[str, set[str]],
    classes: tuple[str, ...],
) -> list[str]:
    said: list[str] = []
    if skipped := sum(len(found[part].skipped) + len(decoded[part].skipped) for part in found):
        were = "file was left out; it is" if skipped == 1 else "files were left out; each is"
        said.append(f"{skipped:,} {were} listed with its reason.")
    said += not_pictures(sum(one.no_pictures for one in found.values()))
    if stretched := sum(one.stretched for one in decoded.values()):
        said.append(f"{stretched:,} images with float or 32-bit pixels were stretched from their range to 0..255.")
    for part in LABELLED:
        if part in found and (empty := (set(found[part].folders) | set(classes)) - present[part]):
            left_out = "" if empty & set(classes) else " and are left out"
            said.append(f"Class folders of {part} without a usable image: {shown(empty)}{left_out}.")
    if "test" not in found:
        said.append("There is no test part: no test accuracy will be reported.")
    if "unlabeled" not in found:
        said.append("There is no unlabeled part: the training images serve for pretraining, labels left out.")
    return said
