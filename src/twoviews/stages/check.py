"""A look at the data before any training: counts, files left out, copies across the splits."""

from __future__ import annotations

from twoviews.dataset.splits import Splits
from twoviews.files import write_csv
from twoviews.settings import CheckCommand
from twoviews.stages.setup import load_splits, say_counts
from twoviews.trainers.progress import say

SHOWN = 10


def run_check(settings: CheckCommand) -> Splits:
    """Print what the data holds; with ``--out``, list files left out and copies as CSV."""
    splits = load_splits(settings, seed=settings.seed, require_labels=False)
    say_counts(splits)
    for skipped in splits.skipped[:SHOWN]:
        say(f"left out: {skipped.path}: {skipped.reason}")
    for leak in splits.leaks[:SHOWN]:
        say(f"copy: {leak.split} {leak.file} = {leak.copy_of_split} {leak.copy_of}")
    hidden = max(0, len(splits.skipped) - SHOWN) + max(0, len(splits.leaks) - SHOWN)
    if hidden:
        say(f"and {hidden:,} more; --out FOLDER lists them all")
    if settings.out is not None:
        write_csv(
            settings.out / "skipped.csv",
            ["path", "reason", "bytes"],
            [(s.path, s.reason, s.bytes) for s in splits.skipped],
        )
        write_csv(
            settings.out / "leaks.csv",
            ["split", "file", "copy_of_split", "copy_of"],
            [(x.split, x.file, x.copy_of_split, x.copy_of) for x in splits.leaks],
        )
    say(f"check: {len(splits.skipped):,} files left out, {len(splits.leaks):,} copies of held-out images")
    return splits
