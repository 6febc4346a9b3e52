"""From words to settings: default < recipe < ``--config`` < flag. Built on tyro and pydantic."""

from __future__ import annotations

import contextlib
import difflib
import inspect
import io
import re
import reprlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tyro
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from twoviews import recipes, settings
from twoviews.errors import SettingsError
from twoviews.trainers.settings_file import load_settings

# Of a value that is itself large (YAML's aliases can make it so) only the beginning is shown.
_SHOWN = reprlib.Repr()
_SHOWN.maxlevel, _SHOWN.maxstring, _SHOWN.maxother = 1, 60, 60

# Commands that take a run, what it must hold and is called: its data and backbone are where their own settings start.
_PRETRAINED = ("models/backbone.safetensors", "pretraining run")
_FROM_RUN = {
    "features": _PRETRAINED,
    "finetune": _PRETRAINED,
    "test": ("models/classifier.safetensors", "classifier run"),
}
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
    with settings.some_unknown():
        named = _read(kind, command, words, {})
        values = _defaults(command, kind, named, lambda under: str(_read(kind, command, words, {"data": under}).data))
    try:
        return _read(kind, command, words, values)
    except ValidationError as error:  # of the defaults: a flag's is told apart in _read
        origin = f"{named.config}: " if getattr(named, "config", None) is not None else ""
        raise SettingsError(origin + _explain(error, kind, command)) from error


def from_values(command: str, settings_name: str, values: dict[str, Any]) -> Any:
    """The settings of a command called from Python: default < recipe < ``values``.

    Raises:
        SettingsError: an unknown name, or a value out of its range.
    """
    kind: type[settings.Settings] = getattr(settings, settings_name)
    try:
        with settings.some_unknown():
            named = kind.model_validate(values)
        defaults = _defaults(command, kind, named, lambda under: str(values.get("data", under)))
        return kind.model_validate(_merge(defaults, values))
    except ValidationError as error:
        raise SettingsError(_explain(error, kind, command)) from error


def flags(kind: type[settings.Settings]) -> list[str]:
    """Every flag of a command, as it is typed."""
    names: list[str] = []
    for key, field in _keys(kind).items():
        if tyro.conf.Positional not in field.metadata:
            names.append(_flag(key))
            if field.annotation is bool:
                group, dot, name = key.rpartition(".")
                names.append(_flag(f"{group}{dot}no-{name}"))
    return names


def _keys(kind: type[settings.Settings], prefix: str = "") -> dict[str, FieldInfo]:
    """Every setting by its dotted name, as in a config (``pretrain.epochs``)."""
    keys: dict[str, FieldInfo] = {}
    for name, field in kind.model_fields.items():
        group = field.annotation
        if inspect.isclass(group) and issubclass(group, settings.Settings):
            keys |= _keys(group, f"{prefix}{name}.")
        else:
            keys[prefix + name] = field
    return keys


def _flag(key: str) -> str:
    return "--" + key.replace("_", "-")


def _defaults(
    command: str, kind: type[settings.Settings], named: Any, data_over: Callable[[str], str]
) -> dict[str, Any]:
    """Run, recipe and config for what was named; ``data_over`` is DATA as named, or else what it is given."""
    config = load_settings(named.config) if getattr(named, "config", None) is not None else {}
    run = _run(command, named, config)
    inherited = _of_run(run)
    values = inherited
    if isinstance(named, settings.DataSettings):
        under = str({**inherited, **config}.get("data", named.data))
        data = named.data if under == named.data else data_over(under)
        name = getattr(named, "recipe", None) or config.get("recipe") or _recipe(data)
        recipe = recipes.recipe_settings(name, None if command == "study" else command)
        values = _merge(recipe, inherited)
    values = _merge(values, config)
    if run is not None and named.init is None and not config.get("init"):
        values["run"] = run  # as resolved: the newest run may be another when the command is given again
    # A recipe speaks of a whole study; a stage takes what it has. A config is the user's: its keys must exist.
    return {key: value for key, value in values.items() if key in kind.model_fields or key in config}


def _recipe(data: str) -> str:
    if data in recipes.RECIPES and not data.startswith("folder"):
        return data
    import torch

    return recipes.recipe_name(data, has_gpu=torch.cuda.is_available() or torch.backends.mps.is_available())


def _run(command: str, named: Any, config: dict[str, Any]) -> Path | None:
    """The run that a command starts from: by name, or else the newest; None where there is none, or no use for it."""
    if command not in _FROM_RUN:
        return None
    if named.run is not None:
        return Path(named.run)
    if isinstance(config.get("run"), str):
        return Path(config["run"])
    from twoviews.stages.folders import newest_run

    with contextlib.suppress(SettingsError):
        return newest_run(*_FROM_RUN[command])
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
        flag = word.split("=", 1)[0].replace("_", "-")
        if flag.startswith("--") and flag not in known:
            raise SettingsError(_no_such(flag, sorted(known), command))


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
            raise SettingsError(_explain(cause, kind, command, flags=True)) from None
        if required and "Missing from" in captured.getvalue():
            needed = " and ".join(key.upper() for key in kind.model_fields if key in required)
            raise SettingsError(f"{command} needs {needed}; `twoviews {command} --help` explains.") from None
        raise SettingsError(_one_line(captured.getvalue())) from None


def _explain(error: ValidationError, kind: type[settings.Settings], command: str, *, flags: bool = False) -> str:
    """The first thing that is wrong: which setting, what it should be, what it was."""
    first = error.errors()[0]
    # The parser checks a study's groups one by one; such an error knows its group by the class alone.
    group = [name for name, f in kind.model_fields.items() if getattr(f.annotation, "__name__", "") == error.title]
    key = ".".join([*group, *(part for part in first["loc"] if isinstance(part, str))])
    if first["type"] == "extra_forbidden":
        return _no_such(key, list(_keys(kind)), command)
    message = first["msg"].removeprefix("Value error, ")
    given = "" if isinstance(first["input"], (dict, settings.Settings)) else f" (got {_SHOWN.repr(first['input'])})"
    where = _flag(key) if flags and first["loc"] else key
    return f"{where}: {_of_group(message, key, kind)}{given}" if key else f"{message}{given}"


def _of_group(message: str, name: str, kind: type[settings.Settings]) -> str:
    """The message of a check within a study's group, which spells flags as in a command of its own."""
    own = {_flag(key) for key in _keys(kind) if key.startswith(f"{name}.")}

    def spelled(found: re.Match[str]) -> str:
        flag = f"--{name}.{found[0][2:]}"
        return flag if flag in own else found[0]

    return re.sub(r"--[a-z][a-z-]*", spelled, message)


def _no_such(name: str, known: list[str], command: str) -> str:
    """What is unknown, and what it may have been meant for: the same name elsewhere, or a similar one."""
    dashes = "--" if name.startswith("--") else ""
    bare, others = name.removeprefix("--"), [key.removeprefix("--") for key in known]
    last = bare.rpartition(".")[2]
    near = [key for key in others if key.rpartition(".")[2] == last]
    near = near or [key for key in others if last in key.rpartition(".")[2].replace("_", "-").split("-")]
    near = near or difflib.get_close_matches(bare, others, n=1)
    near = near or [key for key in others if difflib.get_close_matches(last, [key.rpartition(".")[2]], cutoff=0.8)]
    hint = f"; did you mean {' or '.join(dashes + key for key in near[:3])}?" if near else ""
    return f"{name}: no such setting{hint} (`twoviews {command} --help` lists them)"


def _one_line(text: str) -> str:
    """The parser's message without its box: what stands between the title and the first rule after it."""
    lines = [line.strip("│ ") for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()]
    # A terminal without box-drawing characters has the title on a line of its own, and a rule under it.
    lines = [line for line in lines if line and not line.startswith(("╭", "╰"))][0 if "╭" in text else 2 :]
    rules = [number for number, line in enumerate(lines) if not line.strip("─-")]
    message = " ".join(lines[: rules[0]] if rules else lines).removeprefix("Error parsing ")
    choice = re.fullmatch(r"invalid choice '(.*)' for argument '(.*)'\. Expected one of \((.*)\)\.", message)
    if choice is not None:
        return f"{choice[2]}: should be one of {choice[3].replace(chr(39), '')} (got {choice[1]!r})"
    number = re.fullmatch(
        r"(--\S+): (invalid literal for int\(\)|could not convert string to float).*?: '(.*)'", message
    )
    if number is not None:
        return f"{number[1]}: should be a {'whole ' if 'int()' in number[2] else ''}number (got {number[3]!r})"
    missing = re.fullmatch(r"Missing value for argument '(.*)'\. Expected (\d+) values\.", message)
    if missing is not None:
        return f"{missing[1]}: needs {'a value' if missing[2] == '1' else f'{missing[2]} values'}"
    return re.sub(r"\s*Got errors:.*", "", message).replace("Unrecognized options:", "not understood:")
