"""The last part of the page: what to type to do a run again, and all that its numbers depend on."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twoviews.report.again.machine import environment, seeds_say, times
from twoviews.report.again.settings import Changed, changed_settings, recipe_of
from twoviews.report.number_words import count, path_for_command
from twoviews.report.run import Run
from twoviews.report.tables import Table, plain


@dataclass(frozen=True)
class AgainSection:
    """What the page says and shows about doing a run again.

    Attributes:
        commands: each with what it is for.
        seeds: which there were, in a sentence.
        changed: settings that are not at their default or not the recipe's.
        unchanged: what there is to say where there are none such.
        settings: how many there are in all.
        stages: those of each stage side by side.
        shared: those of the whole run.
        times, environment: how long and how fast, and on what.
    """

    commands: list[tuple[str, str]]
    seeds: str
    changed: Table | None
    unchanged: str
    settings: str
    stages: Table | None
    shared: Table | None
    times: Table | None
    environment: Table | None


def again_section(run: Run, where: str) -> AgainSection:
    """The section, of a study or a stage, finished or not.

    Args:
        where: the stage whose classifier to take; empty where none is better.
    """
    changed = changed_settings(run)
    shared, stages = _all_settings(run)
    return AgainSection(
        commands=_commands(run, where),
        seeds=seeds_say(run),
        changed=_changed(run, changed),
        unchanged="" if changed or not run.settings else "Every setting is at its default.",
        settings=count(sum(len(v) if isinstance(v, Mapping) else 1 for v in run.settings.values())),
        stages=stages,
        shared=shared,
        times=times(run),
        environment=environment(run),
    )


def _changed(run: Run, changed: list[Changed]) -> Table | None:
    if not changed:
        return None
    recipe, caption = recipe_of(run), "Settings as they were used."
    if recipe is not None and any(one.is_recipe for one in changed):
        caption += f" Recipe {recipe.name}: chosen for these data."
    if any(not one.is_recipe for one in changed) and recipe is not None:
        caption += " This run: given by a flag, by --config, or by the run it began with."
    if recipe is None:
        caption += " Which of them a recipe gave, and which a flag, the folder does not tell."
    is_told = any(one.origin for one in changed)
    rows = [[one.key, one.here, one.default, *([one.origin] if is_told else [])] for one in changed]
    return Table(["Setting", "Here", "Default", *(["From"] if is_told else [])], rows, caption, is_numeric=False)


def _all_settings(run: Run) -> tuple[Table | None, Table | None]:
    """Settings of the whole run, and those of each stage side by side, as ``settings.yaml`` has them."""
    common, stages = {}, {}
    for key, value in run.settings.items():
        if isinstance(value, Mapping):
            stages[str(key)] = value
        else:
            common[str(key)] = value
    shared = Table(["Setting", "Value"], [[key, plain(value)] for key, value in common.items()], is_numeric=False)
    keys = list(dict.fromkeys(str(key) for values in stages.values() for key in values))
    rows = [[key, *(_setting(values, key) for values in stages.values())] for key in keys]
    each = Table(["Setting", *stages], rows, is_numeric=False)
    return shared if common else None, each if rows else None


def _setting(values: Mapping[str, Any], key: str) -> str:
    if key not in values:
        return ""
    value = values[key]
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {plain(part)}" for name, part in value.items())
    return plain(value)


def _commands(run: Run, where: str) -> list[tuple[str, str]]:
    path = path_for_command(run.folder)
    commands = []
    if run.environment.get("command"):
        commands.append((str(run.environment["command"]), "as it was run"))
    if run.settings:
        command = "study" if run.kind == "study" else run.kind
        settings = shlex.quote(f"{path}/settings.yaml")
        commands.append((f"twoviews {command} --config {settings} --new", "every setting as it was resolved"))
    commands.append((f"twoviews report {shlex.quote(path)}", "this page"))
    if where:
        stage = f"{path}/{run.seeds[0]}/{where}" if run.seeds else f"{path}/{where}"
        commands.append((f"twoviews predict {shlex.quote(stage)} FOLDER", "classes of your own images"))
    return commands
