"""From words to settings: default < recipe < ``--config`` < flag. Built on tyro and pydantic."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import tyro
from pydantic import ValidationError

from twoviews import recipes, settings
from twoviews.errors import SettingsError
from twoviews.trainers.run_folder import load_settings

# Commands that take a run: what data and backbone it had is where their own settings start.
_FROM_RUN = {"features": "features", "finetune": "finetune", "test": None}
_INHERITED = {
    *settings.DataSettings.model_fields,
    *(key for key in settings.ModelSettings.model_fields if key != "init"),
    "seed",
}


def parse(command: str, settings_name: str, words: list[str]) -> Any:
    """The settings of a command.

    Raises:
        SettingsError: an unknown flag or key, a value out of its range, or a config that can't be read.
    """
    kind: type[settings.Settings] = getattr(settings, settings_name)
    named = _read(kind, command, words, {})
    values = _defaults(command, kind, named)
    return _read(kind, command, words, values)


def from_values(command: str, settings_name: str, values: dict[str, Any]) -> Any:
    """The settings of a command called from Python: default < recipe < ``values``.

    Raises:
        SettingsError: an unknown name, or a value out of its range.
    """
    kind: type[settings.Settings] = getattr(settings, settings_name)
    try:
        named = kind.model_validate(values)
        return kind.model_validate(_merge(_defaults(command, kind, named), values))
    except ValidationError as error:
        raise SettingsError(_explain(error)) from error


def _defaults(command: str, kind: type[settings.Settings], named: Any) -> dict[str, Any]:
    """Recipe and config for what the flags named."""
    values: dict[str, Any] = {}
    config = load_settings(named.config) if getattr(named, "config", None) is not None else {}
    if command in _FROM_RUN:
        values |= _of_run(named.run)
    if isinstance(named, settings.DataSettings):
        data = str(config.get("data", values.get("data", named.data)))
        if "data" in named.model_fields_set and named.data != kind.model_fields["data"].default:
            data = named.data
        name = getattr(named, "recipe", None) or config.get("recipe") or _recipe(data)
        stage = None if command == "study" else command
        recipe = recipes.recipe_settings(name, stage)
        inherited = {key: value for key, value in values.items() if key in _INHERITED}
        values = _merge(recipe, inherited)
    values = _merge(values, config)
    known = kind.model_fields
    # A recipe speaks of a whole study; a stage takes what it has. A config is the user's: its keys must exist.
    return {key: value for key, value in values.items() if key in known or key in config}


def _recipe(data: str) -> str:
    if data in recipes.RECIPES and not data.startswith("folder"):
        return data
    import torch

    return recipes.recipe_name(data, has_gpu=torch.cuda.is_available() or torch.backends.mps.is_available())


def _of_run(run: Path | None) -> dict[str, Any]:
    """Data and backbone of the run that a command starts from, as far as they are recorded."""
    if run is None:
        from twoviews.stages.folders import newest_run

        with contextlib.suppress(SettingsError):
            run = newest_run("models/backbone.safetensors", "pretraining run")
    if run is None or not (run / "settings.yaml").exists():
        return {}
    return {key: value for key, value in load_settings(run / "settings.yaml").items() if key in _INHERITED}


def _merge(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _read(kind: type[settings.Settings], command: str, words: list[str], values: dict[str, Any]) -> Any:
    """Parse the words over ``values``; the parser's boxes become one line."""
    captured = io.StringIO()
    try:
        default = _valid(kind, values)
        with contextlib.redirect_stderr(captured):
            return tyro.cli(
                kind,
                args=words,
                default=default,
                prog=f"twoviews {command}",
                description=kind.__doc__,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except ValidationError as error:
        raise SettingsError(_explain(error)) from error
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise SettingsError(_one_line(captured.getvalue(), command)) from None


def _valid(kind: type[settings.Settings], values: dict[str, Any]) -> Any:
    required = {name for name, f in kind.model_fields.items() if f.is_required()} - values.keys()
    return tyro.MISSING_NONPROP if required else kind.model_validate(values)


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return f"{key}: no such setting; `--help` lists them."
    given = "" if isinstance(first["input"], dict) else f" (got {first['input']!r})"
    return f"{key}: {message}{given}." if key else f"{message}."


def _one_line(text: str, command: str) -> str:
    """The parser's message without its boxes, rules and colours."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    lines = [line.strip("│╭╮╰╯─ \t") for line in text.splitlines()]
    words = " ".join(line for line in lines if line)
    words = re.sub(r"\s*For further information visit \S+", "", words)
    words = re.sub(r"\s*For full helptext, (run|see) .*", "", words)
    words = re.sub(r"^(Unrecognized options|Value error|Parsing error|Missing required \w+) (?=\w+.*:)", "", words)
    words = re.sub(r"\[type=[^\]]*\]", "", words)
    return f"{words.strip()} (`twoviews {command} --help` lists the settings)"
