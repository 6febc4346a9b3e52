"""A run's settings as it used them, by dotted key, beside the defaults and the recipe of its data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from twoviews.dataset.parts import PARTS
from twoviews.errors import SettingsError
from twoviews.recipes import RECIPES, recipe_name, recipe_settings
from twoviews.report.run import Run
from twoviews.report.tables import plain
from twoviews.report.values import dig
from twoviews.settings import (
    FeaturesCommand,
    FinetuneCommand,
    PretrainCommand,
    Settings,
    StudyCommand,
    SupervisedCommand,
    TestCommand,
)

_COMMANDS: dict[str, type[Settings]] = {
    "study": StudyCommand,
    "supervised": SupervisedCommand,
    "pretrain": PretrainCommand,
    "features": FeaturesCommand,
    "finetune": FinetuneCommand,
    "test": TestCommand,
}
# Where things lie and how a run was started, not what it did.
_PLACES = {"out", "new", "fork", "config", "cache", "data_root", "run"}
_TUNED = {"supervised", "finetune"}

THIS_RUN = "this run"


@dataclass(frozen=True)
class Changed:
    """A setting that is not as it would be by itself.

    Attributes:
        key: dotted, as in ``settings.yaml``.
        here, default: its value as used, and the command's default, as text.
        origin: the recipe, this run, or what changed it while it ran; empty where that can't be told.
        is_recipe: whether it is as the recipe has it.
    """

    key: str
    here: str
    default: str
    origin: str
    is_recipe: bool


@dataclass(frozen=True)
class RecordedRecipe:
    """The recipe that a run's settings began with: its name, and its values by dotted key."""

    name: str
    values: dict[str, Any]


def used_settings(run: Run) -> dict[str, Any]:
    """Settings by dotted key; a stage's own win over the study's, for time and tuning may have changed them."""
    found = _asked(run)
    for name, stage in run.stages.items():
        try:
            own = yaml.safe_load((stage.folder / "settings.yaml").read_text(encoding="utf-8", errors="replace"))
        except (OSError, yaml.YAMLError):
            continue
        for key, value in own.items() if isinstance(own, dict) else ():
            if f"{name}.{key}" in found:
                found[f"{name}.{key}"] = value
    return found


def default_settings(kind: str = "study") -> dict[str, Any]:
    """The defaults of the command that leaves such a run, by dotted key; none for a kind without a command."""
    command = _COMMANDS.get(kind)
    return {} if command is None else _flat(command().model_dump(mode="json"))


def recipe_of(run: Run) -> RecordedRecipe | None:
    """The recipe that the settings began with; None where the run folder does not tell.

    A named data set has its own. A folder's goes by the device.
    """
    data, named = run.settings.get("data"), run.settings.get("recipe")
    device = dig(run.environment, "machine", "device")
    if any(run.settings.get(part) for part in PARTS):
        data = ""  # parts named one by one are a folder's, whatever DATA says
    if isinstance(named, str):
        name = named
    elif not isinstance(data, str):
        return None
    elif data in RECIPES or isinstance(device, str):
        name = recipe_name(data, lambda: device == "cuda")
    else:
        return None
    try:
        return RecordedRecipe(name, _flat(recipe_settings(name, None if run.kind == "study" else run.kind)))
    except SettingsError:  # a recipe that this version does not have
        return None


def changed_settings(run: Run) -> list[Changed]:
    """Settings that differ from the default or from the recipe, those that are not the recipe's first.

    One without a known default, as an older version may have had, differs from nothing.
    """
    asked, recipe, found = _asked(run), recipe_of(run), []
    defaults = default_settings(run.kind)
    for key, value in used_settings(run).items():
        here, default = plain(value), plain(defaults.get(key))
        of_recipe = plain(recipe.values[key]) if recipe is not None and key in recipe.values else None
        if key in defaults and (here != default or of_recipe not in (None, here)):
            origin = _while_running(key, run) if here != plain(asked[key]) else ""
            if origin:
                origin += f"; asked for {plain(asked[key])}"
            elif recipe is not None:
                said = "" if of_recipe is None else f"; the recipe has {of_recipe}"
                origin = f"recipe {recipe.name}" if here == of_recipe else f"{THIS_RUN}{said}"
            found.append(Changed(key, here, default, origin, here == of_recipe))
    return sorted(found, key=lambda one: one.is_recipe)


def _asked(run: Run) -> dict[str, Any]:
    return _flat({key: value for key, value in run.settings.items() if key not in _PLACES})


def _while_running(key: str, run: Run) -> str:
    """What may change a stage's setting after the command was given."""
    is_tuned = bool(run.settings.get("tune")) and key.partition(".")[0] in _TUNED
    is_timed = bool(run.settings.get("minutes")) and key.endswith((".epochs", ".warmup_epochs"))
    causes = [*(["--tune"] if is_tuned else []), *(["--minutes"] if is_timed else [])]
    return " or ".join(causes) or THIS_RUN


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found
