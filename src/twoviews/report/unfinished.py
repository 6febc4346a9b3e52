"""How far the stages of a run without results got."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twoviews.report.stage_files import PART, SEED, STAGES, Stage, is_part, read_settings, read_stage
from twoviews.report.values import dig, number

_MOST_STATES = 8


def state_of(stage: Stage, settings: dict[str, Any]) -> str:
    """How far a stage got."""
    # A stage's own settings win: with fewer labels or less time it has other epochs than the study's settings say.
    own = read_settings(stage.folder / "settings.yaml", [])
    known = (own.get("epochs"), dig(settings, stage.name, "epochs"), settings.get("epochs"))
    epochs = next((found for value in known if (found := number(value))), None)
    if not stage.metrics:
        return f"{stage.name} (stopped before its first epoch ended)" if epochs else f"{stage.name} (begun)"
    last = stage.metrics[-1]
    total = f" of {epochs:.0f}" if epochs else ""
    step = number(last.get("step"))
    return f"{stage.name} (stopped after epoch {last['epoch']}{total}" + (f", step {step:,.0f})" if step else ")")


def unfinished_stages(folder: Path, bases: list[Path], settings: dict[str, Any]) -> list[str]:
    """The stages of a study without a result, each with how far it got; of parts that were begun, the first one."""
    states = []
    is_whole = not is_part(folder.name)
    for base in bases:
        seed = f"{base.name}/" if SEED.fullmatch(base.name) and base != folder else ""
        own_pretraining = (base == bases[0] and is_whole) or bool(settings.get("pretrain_seeds"))
        states += [seed + state for state in _open_stages(base, settings, own_pretraining)]
        for part in sorted((path for path in base.glob("*-*") if PART.fullmatch(path.name)), key=_part):
            states += [f"{seed}{part.name}/{state}" for state in _open_stages(part, settings, False)[:1]]
    first, many = number(settings.get("seed")) or 0, number(settings.get("seeds")) or 1
    expected = [f"seed{first + i:.0f}" for i in range(int(many))] if many > 1 else []
    states += [name for name in expected if not (folder / name).is_dir()]
    if len(states) > _MOST_STATES:
        states[_MOST_STATES - 1 :] = [f"{len(states) - _MOST_STATES + 1} more stages"]
    return states or (["the study's own results.json"] if is_whole else [])


def _open_stages(base: Path, settings: dict[str, Any], own_pretraining: bool) -> list[str]:
    found = []
    for name in STAGES:
        if (base / name / "results.json").exists() or (name == "pretrain" and not own_pretraining):
            continue
        known = (base / name).is_dir()
        found.append(state_of(read_stage(name, base / name, []), settings) if known else name)
    return found


def _part(path: Path) -> tuple[str, float]:
    kind, value = path.name.split("-", 1)
    try:
        return kind, float(value)
    except ValueError:
        return kind, 0.0
