"""What differs between studies: settings as they were used, images, versions and machines; by key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from twoviews.report.source import Run
from twoviews.report.tables import Table, plain
from twoviews.report.words import NONE, count, dig
from twoviews.settings import StudyCommand

# Where things lie and how a study was started, not what it did.
MACHINE = "machine, "
_PLACES = {"out", "new", "fork", "config", "cache", "data_root", "run"}


def differing_settings(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Each setting with different values, by its dotted key → the value in each study as text, – where it has none."""
    # A study of before a setting was there did as its default does.
    return _differing([_used(run) for run in runs], _flat(StudyCommand().model_dump(mode="json")))


def differing_surroundings(runs: Sequence[Run]) -> dict[str, list[str]]:
    """The same of numbers of images, versions and machines."""
    return _differing([_surroundings(run) for run in runs], {})


def differing_table(names: Sequence[str], rows: Mapping[str, Sequence[str]], head: str, caption: str = "") -> Table:
    """A row for each key, a column for each study."""
    return Table([head, *names], [[key, *values] for key, values in rows.items()], caption, is_numeric=False)


def short_note(rows: Mapping[str, Sequence[str]], place: int, most: int = 3) -> str:
    """The first of a study's settings that differ, for under its name."""
    parts = [f"{key} {values[place]}" for key, values in rows.items() if values[place] != NONE]
    more = [f"{len(parts) - most} more below"] if len(parts) > most else []
    return " · ".join([*parts[:most], *more])


def _differing(sides: Sequence[Mapping[str, Any]], defaults: Mapping[str, Any]) -> dict[str, list[str]]:
    """What is missing on a side counts as its default; one without a default differs from nothing."""
    found = {}
    for key in dict.fromkeys(key for side in sides for key in side):
        known = [plain(side.get(key, defaults.get(key))) for side in sides if key in side or key in defaults]
        if len(set(known)) > 1:
            found[key] = [plain(side[key]) if key in side else NONE for side in sides]
    return found


def _used(run: Run) -> dict[str, Any]:
    """Settings by dotted key; a stage's own win over the study's, for time and tuning may have changed them."""
    found = _flat({key: value for key, value in run.settings.items() if key not in _PLACES})
    for name, stage in run.stages.items():
        try:
            own = yaml.safe_load((stage.folder / "settings.yaml").read_text(encoding="utf-8", errors="replace"))
        except (OSError, yaml.YAMLError):
            continue
        for key, value in own.items() if isinstance(own, dict) else ():
            if f"{name}.{key}" in found:
                found[f"{name}.{key}"] = value
    return found


def _surroundings(run: Run) -> dict[str, Any]:
    counts = dig(run.results, "data", "counts")
    machine = run.environment.get("machine")
    found = {f"images, {key}": count(value) for key, value in counts.items()} if isinstance(counts, Mapping) else {}
    found |= {key: run.environment[key] for key in ("twoviews", "torch", "timm") if key in run.environment}
    return found | (
        {f"{MACHINE}{key}": value for key, value in machine.items()} if isinstance(machine, Mapping) else {}
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found
