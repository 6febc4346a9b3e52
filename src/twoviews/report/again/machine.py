"""On what a run computed, from which seeds, and how long it took."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from twoviews.files import read_json
from twoviews.report.number_words import count, duration, joined
from twoviews.report.run import Run
from twoviews.report.stage_files import STAGE_NAMES, STAGES
from twoviews.report.tables import Table, plain
from twoviews.report.values import dig, items, number

_UNITS = {"memory_gb": ("memory", " GB")}
_MOST_SEEDS = 6


def seeds_say(run: Run) -> str:
    """Which seeds the run's chance came from; empty where that was not recorded."""
    first, many = number(run.settings.get("seed")), number(run.settings.get("seeds")) or 1
    asked = [] if first is None else [int(first) + i for i in range(int(min(many, 1000)))]
    seeds = [int(found) for seed in items(run.results.get("seeds")) if (found := number(seed)) is not None] or asked
    if len(seeds) < 2:
        return f"Seed {seeds[0]}: all that is random follows from it." if seeds else ""
    text = f"Seeds {_listed(seeds)}, a training each: all that is random follows from its seed. "
    if run.settings.get("pretrain_seeds"):
        return f"{text}Each has its own pretraining too."
    return f"{text}They share one pretraining, that of seed {seeds[0]}."


def _listed(seeds: list[int]) -> str:
    is_row = seeds == list(range(seeds[0], seeds[0] + len(seeds)))
    if len(seeds) > _MOST_SEEDS:
        return f"{seeds[0]} to {seeds[-1]}" if is_row else f"{joined([str(s) for s in seeds[:_MOST_SEEDS]])} and more"
    return joined([str(seed) for seed in seeds])


def times(run: Run) -> Table | None:
    """How long each stage took, and how fast it went."""
    spent = _seconds(run)
    rows = []
    for name in STAGES:
        timing = run.stages[name].timing if name in run.stages else []
        seconds = number(spent.get(name))
        measured = [value for row in timing if (value := number(row.get("seconds"))) is not None]
        if seconds is None and measured:
            seconds = sum(measured)
        rates = [value for row in timing if (value := number(row.get("images_per_second"))) is not None]
        rate = statistics.median(rates) if rates else None
        if name == "pretrain":
            rate = number(dig(run.results, "speed", "pretrain_images_per_second")) or rate
        if seconds is not None or rate is not None:
            epochs = str(len(run.stages[name].metrics)) if name in run.stages and run.stages[name].metrics else ""
            rows.append([STAGE_NAMES[name], epochs, duration(seconds), count(rate) if rate else ""])
    for name, value in spent.items():
        if name not in (*STAGES, "total") and number(value) is not None:
            rows.append([str(name).replace("_", " "), "", duration(value), ""])
    total = number(spent.get("total"))
    if total is not None:
        rows.append(["All so far" if run.unfinished else "All", "", duration(total), ""])
    caption = "Images/s of pretraining as the run reports it, of other stages the median of the epochs."
    if len(run.seeds) > 1 or run.results.get("label_curve") or run.results.get("folds"):
        caption += " Epochs and images/s are those of the training shown; times add up all of them."
    if (jobs := number(run.settings.get("jobs"))) is not None and jobs > 1:
        caption += f" Up to {count(jobs)} trainings ran at once (--jobs), so that less time passed than all add up to."
    return Table(["Stage", "Epochs", "Time", "Images/s"], rows, caption) if rows else None


def _seconds(run: Run) -> Mapping[str, Any]:
    """Seconds of each stage, over all seeds, budgets and starts; of a study without results, those noted so far."""
    found = dig(run.results, "seconds")
    if isinstance(found, Mapping):
        return found
    try:
        noted = read_json(run.folder / "seconds.json")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        run.problems.append(f"seconds.json can't be read ({error})")
        return {}
    return seconds_by_stage(noted) if isinstance(noted, dict) else {}


def seconds_by_stage(noted: Mapping[str, Any]) -> dict[str, float]:
    """What ``seconds.json`` has of each stage's folder, over all seeds and budgets; ``total`` of all stages."""
    spent: dict[str, float] = defaultdict(float)
    for place, value in noted.items():
        spent["tune" if place.startswith("tune/") else place.rpartition("/")[2]] += number(value) or 0.0
    return {**spent, "total": sum(spent.values())} if spent else {}


def environment(run: Run) -> Table | None:
    """Versions and machine, as ``environment.json`` lists them; of a run that was resumed also what was other then."""
    starts = [one for one in (run.environment, *items(run.environment.get("resumes"))) if isinstance(one, Mapping)]
    machines = [machine for one in starts if isinstance(machine := one.get("machine"), Mapping)]
    versions = [{k: v for k, v in one.items() if k not in ("machine", "command", "started")} for one in starts]
    rows = [[key, text] for key in versions[0] if (text := _over_starts(versions, key))]
    for key in dict.fromkeys(key for machine in machines for key in machine):
        if text := _over_starts(machines, key, _UNITS.get(key, ("", ""))[1]):
            rows.append([_UNITS.get(key, (key, ""))[0], text])
    if len(starts) > 1:
        many = "once" if len(starts) == 2 else f"{len(starts) - 1} times"
        rows.append(["resumed", f"{many}, the last time {plain(starts[-1].get('started'))}"])
    return Table(["", ""], rows, is_numeric=False) if rows else None


def _over_starts(starts: list[Any], key: str, unit: str = "") -> str:
    """The value at the first start, and others that later ones had; empty where none is text or a number."""
    known = [one[key] for one in starts if isinstance(one.get(key), (str, int, float))]
    first, *later = dict.fromkeys(plain(value) + unit for value in known) if known else [""]
    return f"{first}; later also {joined(later)}" if later else first
