"""What differs between studies: settings as they were used, images, versions and machines; by key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twoviews.listing import first_few
from twoviews.report.again.settings import default_settings, used_settings
from twoviews.report.number_words import NONE, count
from twoviews.report.run import Run
from twoviews.report.tables import Table, plain
from twoviews.report.values import dig

MACHINE = "machine, "
_MOST_NOTED = 3


def differing_settings(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Each setting with different values, by its dotted key → the value in each study as text, – where it has none."""
    # A study of before a setting was there did as its default does.
    return _differing([used_settings(run) for run in runs], default_settings())


def differing_surroundings(runs: Sequence[Run]) -> dict[str, list[str]]:
    """The same of numbers of images, versions and machines."""
    return _differing([_surroundings(run) for run in runs], {})


def differing_table(names: Sequence[str], rows: Mapping[str, Sequence[str]], head: str) -> Table:
    """A row for each key, a column for each study."""
    return Table([head, *names], [[key, *values] for key, values in rows.items()], is_numeric=False)


def short_note(rows: Mapping[str, Sequence[str]], place: int) -> str:
    """The first of a study's settings that differ, for under its name."""
    parts = [f"{key} {values[place]}" for key, values in rows.items() if values[place] != NONE]
    few, more = first_few(parts, _MOST_NOTED)
    return " · ".join([*few, f"{more} more below"] if more else few)


def _differing(sides: Sequence[Mapping[str, Any]], defaults: Mapping[str, Any]) -> dict[str, list[str]]:
    """What is missing on a side counts as its default; one without a default differs from nothing."""
    found = {}
    for key in dict.fromkeys(key for side in sides for key in side):
        known = [plain(side.get(key, defaults.get(key))) for side in sides if key in side or key in defaults]
        if len(set(known)) > 1:
            found[key] = [plain(side[key]) if key in side else NONE for side in sides]
    return found


def _surroundings(run: Run) -> dict[str, Any]:
    counts = dig(run.results, "data", "counts")
    machine = run.environment.get("machine")
    found = {f"images, {key}": count(value) for key, value in counts.items()} if isinstance(counts, Mapping) else {}
    found |= {key: run.environment[key] for key in ("twoviews", "torch", "timm") if key in run.environment}
    return found | (
        {f"{MACHINE}{key}": value for key, value in machine.items()} if isinstance(machine, Mapping) else {}
    )
