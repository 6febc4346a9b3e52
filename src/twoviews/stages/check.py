"""A look at the data before any training: counts, files left out, copies across the splits, labels that conflict."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from twoviews.dataset.parts import NAMED, PARTS, named_parts
from twoviews.dataset.splits import Splits
from twoviews.files import write_json
from twoviews.listing import first_few
from twoviews.settings import CheckCommand
from twoviews.stages.columns import aligned
from twoviews.stages.data_files import data_results, write_lists
from twoviews.stages.setup import load_splits
from twoviews.trainers.progress import say

SHOWN = 5  # files, copies and conflicts each
SHOWN_CLASSES = 20  # with more, only the smallest and the largest are named


def run_check(settings: CheckCommand) -> Splits:
    """Print what the data holds; with ``--out``, leave the lists as CSV and the figures in check.json."""
    splits = load_splits(settings, seed=settings.seed, require_labels=False, look_at_test=True)
    for line in _lines(splits):
        say(line.replace("\n", "\\n"))  # a name may hold what looks like a line of ours
    if settings.out is not None:
        write_lists(settings.out, splits, empty=True)
        write_json(settings.out / "check.json", _figures(splits, settings))
        say(f"lists: {settings.out}")
    elif splits.skipped or splits.leaks or splits.conflicts:
        say("lists: --out FOLDER writes all of them as CSV")
    say(f"next: {_next_command(splits, settings)}")
    return splits


def _figures(splits: Splits, settings: CheckCommand) -> dict[str, Any]:
    """What check.json holds."""
    names = splits.class_names
    return {
        **data_results(splits, keep_leaks=settings.keep_leaks, drop_near=settings.drop_near),
        "image_size": splits.unlabeled.image_size,
        "class_counts": {part: dict(zip(names, counts, strict=True)) for part, counts in splits.class_counts.items()},
        "skipped_reasons": dict(Counter(_short(item.reason) for item in splits.skipped).most_common()),
        "notes": splits.notes,
    }


def _lines(splits: Splits) -> Iterable[str]:
    size = splits.unlabeled.image_size
    yield f"{splits.name}: {size}×{size} pixels, {len(splits.class_names):,} classes"
    yield from _table(splits)
    balance = _balance(splits)
    if balance:
        yield balance
    for note in splits.notes:
        yield f"note: {note}"
    reasons = Counter(_short(item.reason) for item in splits.skipped)
    listed = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common(SHOWN))
    yield f"files left out: {len(splits.skipped):,}{f' ({listed})' if listed else ''}"
    yield from _some([f"{item.path}: {item.reason}" for item in splits.skipped])
    for kind in ("exact", "near"):
        leaks = [leak for leak in splits.leaks if leak.kind == kind]
        yield f"{kind} copies of held-out images: {len(leaks):,}"
        yield from _some(
            [
                f"{leak.file} is {leak.copy_of}"
                if kind == "exact"
                else f"{leak.file} looks like {leak.copy_of}, similarity {leak.similarity:.3f}"
                for leak in leaks
            ]
        )
    yield f"label conflicts: {len(splits.conflicts):,}"
    yield from _some(
        [f"{x.file} is {x.label}, its {x.kind} copy {x.other_file} is {x.other_label}" for x in splits.conflicts]
    )


def _table(splits: Splits) -> list[str]:
    """Images of each part, and of each class where they are few, in columns."""
    lines = [["", *PARTS], ["images", *(f"{splits.counts[part]:,}" for part in PARTS)]]
    if len(splits.class_names) <= SHOWN_CLASSES:
        for number, name in enumerate(splits.class_names):
            cells = [f"{splits.class_counts[p][number]:,}" if p in splits.class_counts else "" for p in PARTS]
            lines.append([f"  {name}", *cells])
    return aligned(lines)


def _balance(splits: Splits) -> str:
    """How uneven the classes of train are."""
    names, counts = splits.class_names, splits.class_counts.get("train", [])
    if len(names) < 2 or not max(counts):
        return ""
    small, large = counts.index(min(counts)), counts.index(max(counts))
    if counts[small] == counts[large]:
        return f"classes of train: balanced, {counts[small]:,} images each"
    ratio = counts[large] / max(1, counts[small])
    return (
        f"classes of train: from {counts[small]:,} images ({names[small]}) to {counts[large]:,} ({names[large]}), "
        f"{ratio:.1f} times as many"
    )


def _some(lines: Sequence[str]) -> list[str]:
    few, more = first_few(lines, SHOWN)
    return [f"  {line}" for line in few] + ([f"  and {more:,} more"] if more else [])


def _short(reason: str) -> str:
    """A reason without what is particular to one file."""
    return reason.partition(" (")[0]


def _next_command(splits: Splits, settings: CheckCommand) -> str:
    """What to run now: a study where there is a test part, else what can be run without one."""
    parts = named_parts(settings)
    words = [] if parts and settings.data in NAMED else [settings.data]  # DATA's default says nothing beside them
    words += [word for part, folder in parts.items() for word in (f"--{part}", str(folder))]
    can_train = len(splits.train) > 0 and len(splits.class_names) > 1
    command = "study" if can_train and splits.test_images is not None else "pretrain"
    near = any(leak.kind == "near" for leak in splits.leaks)
    hint = " (with --drop-near, near copies are left out too)" if near and not settings.drop_near else ""
    return f"twoviews {command} {' '.join(map(shlex.quote, words))}{hint}"
