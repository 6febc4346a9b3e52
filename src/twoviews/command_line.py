"""From words to settings: default < recipe < ``--config`` < flag. Built on tyro and pydantic."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import tyro
from pydantic import ValidationError

from twoviews import recipes, settings
from twoviews.dataset.parts import PARTS, is_folder
from twoviews.errors import SettingsError, TwoviewsError
from twoviews.first_look import first_look
from twoviews.flag_words import explain, flags, no_such, one_line
from twoviews.trainers.settings_file import load_settings

# Commands that take a run: its data and backbone are where their own settings start.
_FROM_RUN = ("features", "finetune", "test")
_INHERITED = {
    *settings.DataSettings.model_fields,
    *settings.LabelSettings.model_fields,
    *(key for key in settings.ModelSettings.model_fields if key != "init"),
    "seed",
}


def parse(command: str, settings_name: str, words: list[str]) -> Any:
    """The settings of a command.

    Raises:
        SettingsError: an unknown flag or key, a value out of its range, or a config that can't be read.
    """
    kind: type[settings.Settings] = getattr(settings, settings_name)
    _check_flags(kind, command, words)
    if {"-h", "--help"} & set(words):
        from twoviews.help_words import for_help

        kind = for_help(kind, command, _INHERITED if command in _FROM_RUN else ())
    with settings.some_unknown():
        named = _read(kind, command, words, {})

    def data_over(under: str) -> str:
        return str(_read(kind, command, words, {"data": under}).data)

    def settled(has_gpu: Callable[[], bool]) -> Any:
        with settings.some_unknown():
            values = _defaults(command, kind, named, data_over, has_gpu)
        try:
            return _read(kind, command, words, values)
        except ValidationError as error:  # of the defaults: a flag's is told apart in _read
            origin = f"{named.config}: " if getattr(named, "config", None) is not None else ""
            raise SettingsError(origin + explain(error, kind, command)) from error

    return _settle(settled)


def from_values(command: str, settings_name: str, values: dict[str, Any]) -> Any:
    """The settings of a command called from Python: default < recipe < ``values``.

    Raises:
        SettingsError: an unknown name, or a value out of its range.
    """
    kind: type[settings.Settings] = getattr(settings, settings_name)
    try:
        with settings.some_unknown():
            named = kind.model_validate(values)
    except ValidationError as error:
        raise SettingsError(explain(error, kind, command)) from error

    def settled(has_gpu: Callable[[], bool]) -> Any:
        try:
            with settings.some_unknown():
                defaults = _defaults(command, kind, named, lambda under: str(values.get("data", under)), has_gpu)
            return kind.model_validate(_merge(defaults, values))
        except ValidationError as error:
            raise SettingsError(explain(error, kind, command)) from error

    return _settle(settled)


def _settle(settled: Callable[[Callable[[], bool]], Any]) -> Any:
    """The settings, looked at before torch is loaded, which alone knows whether there is a GPU of NVIDIA's or AMD's.

    A folder's recipe depends on that, where no other device is asked for. What is wrong with either recipe need not
    wait for the answer.
    """
    asked = False

    def none() -> bool:
        nonlocal asked
        asked = True
        return False

    try:
        found = settled(none)
    except TwoviewsError:
        if not asked:
            raise
        with contextlib.suppress(TwoviewsError):
            found = settled(lambda: True)
            if _has_gpu():
                return first_look(found)
        raise
    first_look(found)
    return settled(lambda: True) if asked and _has_gpu() else found


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _defaults(
    command: str,
    kind: type[settings.Settings],
    named: Any,
    data_over: Callable[[str], str],
    has_gpu: Callable[[], bool],
) -> dict[str, Any]:
    """Run, recipe and config for what was named; ``data_over`` is DATA as named, or else what it is given."""
    config = load_settings(named.config) if getattr(named, "config", None) is not None else {}
    run = _run(command, named, config)
    inherited = _of_run(run)
    values = inherited
    if isinstance(named, settings.DataSettings):
        known = {**inherited, **config}
        under = str(known.get("data", named.data))
        data = named.data if under == named.data else data_over(under)
        if is_folder(data, [getattr(named, part) or known.get(part) for part in PARTS]):
            data = "folder"
        device = getattr(named, "device", "auto")
        device = config.get("device", "auto") if device == "auto" else device
        computes_on_gpu = partial(_computes_on_gpu, device, has_gpu)
        name = getattr(named, "recipe", None) or config.get("recipe") or recipes.recipe_name(data, computes_on_gpu)
        recipe = recipes.recipe_settings(name, None if command == "study" else command)
        values = _merge(recipe, inherited)
    values = _merge(values, config)
    if run is not None and named.init is None and not config.get("init"):
        values["run"] = run  # as resolved: the newest run may be another when the command is given again
    # A recipe speaks of a whole study; a stage takes what it has. A config is the user's: its keys must exist.
    return {key: value for key, value in values.items() if key in kind.model_fields or key in config}


def _computes_on_gpu(device: str, has_gpu: Callable[[], bool]) -> bool:
    return device in ("auto", "cuda") and has_gpu()


def _run(command: str, named: Any, config: dict[str, Any]) -> Path | None:
    """The run that a command starts from: by name, or else the newest; None where there is none, or no use for it."""
    if command not in _FROM_RUN:
        return None
    if named.run is not None:
        return Path(named.run)
    if isinstance(config.get("run"), str):
        return Path(config["run"])
    from twoviews.stages.folders import newest_classifier_run, newest_pretraining

    with contextlib.suppress(SettingsError):
        return newest_classifier_run() if command == "test" else newest_pretraining()
    return None


def _of_run(run: Path | None) -> dict[str, Any]:
    """Data and backbone of the run that a command starts from, as far as they are recorded."""
    if run is None or not (run / "settings.yaml").exists():
        return {}
    return {key: value for key, value in load_settings(run / "settings.yaml").items() if key in _INHERITED}


def _merge(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _check_flags(kind: type[settings.Settings], command: str, words: list[str]) -> None:
    known = {*flags(kind), "--help"}
    for word in words:
        name, _, value = word.partition("=")
        flag = name.replace("_", "-")
        if flag.startswith("--") and flag not in known:
            raise SettingsError(no_such(flag, sorted(known), command))
        if not word:  # a path of no letters would be the folder that one is in
            raise SettingsError("an empty word stands where a value should be (''); is a variable of a script not set?")
        if flag.startswith("--") and not value and word.endswith("="):
            raise SettingsError(f"{flag}: needs a value")


def _read(kind: type[settings.Settings], command: str, words: list[str], values: dict[str, Any]) -> Any:
    """Parse the words over ``values``; what the parser says in a box becomes one line."""
    required = {name for name, field in kind.model_fields.items() if field.is_required()} - values.keys()
    default: Any = tyro.MISSING_NONPROP if required else kind.model_validate(values)
    captured = io.StringIO()
    try:
        with contextlib.redirect_stderr(captured):
            return tyro.cli(kind, args=words, default=default, prog=f"twoviews {command}", description=kind.__doc__)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        cause: BaseException | None = stop
        while cause is not None and not isinstance(cause, ValidationError):
            cause = cause.__context__
        if cause is not None:
            raise SettingsError(explain(cause, kind, command, flags=True)) from None
        if required and "Missing from" in captured.getvalue():
            needed = " and ".join(key.upper() for key in kind.model_fields if key in required)
            raise SettingsError(f"{command} needs {needed}; `twoviews {command} --help` explains.") from None
        raise SettingsError(one_line(captured.getvalue(), command)) from None
