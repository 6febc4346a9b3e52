"""What the command line says of words that it can't take, and the flags that there are."""

from __future__ import annotations

import difflib
import inspect
import re
import reprlib

import tyro
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from twoviews import settings

# Of a value that is itself large (YAML's aliases can make it so) only the beginning is shown.
_SHOWN = reprlib.Repr()
_SHOWN.maxlevel, _SHOWN.maxstring, _SHOWN.maxother = 1, 60, 60


def flags(kind: type[settings.Settings]) -> list[str]:
    """Every flag of a command, as it is typed."""
    names: list[str] = []
    for key, field in keys_of(kind).items():
        if tyro.conf.Positional not in field.metadata:
            names.append(_flag(key))
            if field.annotation is bool:
                group, dot, name = key.rpartition(".")
                names.append(_flag(f"{group}{dot}no-{name}"))
    return names


def keys_of(kind: type[settings.Settings], prefix: str = "") -> dict[str, FieldInfo]:
    """Every setting by its dotted name, as in a config (``pretrain.epochs``)."""
    keys: dict[str, FieldInfo] = {}
    for name, field in kind.model_fields.items():
        group = field.annotation
        if inspect.isclass(group) and issubclass(group, settings.Settings):
            keys |= keys_of(group, f"{prefix}{name}.")
        else:
            keys[prefix + name] = field
    return keys


def _flag(key: str) -> str:
    return "--" + key.replace("_", "-")


def explain(error: ValidationError, kind: type[settings.Settings], command: str, *, flags: bool = False) -> str:
    """The first thing that is wrong: which setting, what it should be, what it was."""
    first = error.errors()[0]
    # The parser checks a study's groups one by one; such an error knows its group by the class alone.
    group = [name for name, f in kind.model_fields.items() if getattr(f.annotation, "__name__", "") == error.title]
    key = ".".join([*group, *(part for part in first["loc"] if isinstance(part, str))])
    if first["type"] == "extra_forbidden":
        return no_such(key, list(keys_of(kind)), command)
    message = settings.should(first)
    given = "" if isinstance(first["input"], (dict, settings.Settings)) else f" (got {_SHOWN.repr(first['input'])})"
    where = _flag(key) if flags and first["loc"] else key
    message = _of_group(message, key, kind)
    return f"{where}: {message}{given}" if key and not message.startswith(f"--{key}.") else f"{message}{given}"


def _of_group(message: str, name: str, kind: type[settings.Settings]) -> str:
    """The message of a check within a study's group, which spells flags as in a command of its own."""
    own = {_flag(key) for key in keys_of(kind) if key.startswith(f"{name}.")}

    def spelled(found: re.Match[str]) -> str:
        flag = f"--{name}.{found[0][2:]}"
        return flag if flag in own else found[0]

    return re.sub(r"--[a-z][a-z-]*", spelled, message)


def no_such(name: str, known: list[str], command: str) -> str:
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


def one_line(text: str, command: str) -> str:
    """The parser's message without its box: what stands between the title and the first rule after it."""
    lines = [line.strip("│ ") for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()]
    # A terminal without box-drawing characters has the title on a line of its own, and a rule under it.
    lines = [line for line in lines if line and not line.startswith(("╭", "╰"))][0 if "╭" in text else 2 :]
    rules = [number for number, line in enumerate(lines) if not line.strip("─-")]
    message = " ".join(lines[: rules[0]] if rules else lines).removeprefix("Error parsing ")
    choice = re.fullmatch(r"invalid choice '(.*)' for argument '(.*)'\. Expected one of \((.*)\)\.", message)
    if choice is not None:
        return f"{choice[2]}: should be one of {choice[3].replace(chr(39), '').rstrip(', ')} (got {choice[1]!r})"
    number = re.fullmatch(
        r"(--\S+): (invalid literal for int\(\)|could not convert string to float).*?: '(.*)'", message
    )
    if number is not None:
        return f"{number[1]}: should be a {'whole ' if 'int()' in number[2] else ''}number (got {number[3]!r})"
    missing = re.fullmatch(r"Missing value for argument '(.*)'\. Expected (\d+) values\.", message)
    if missing is not None:
        return f"{missing[1]}: needs {'a value' if missing[2] == '1' else f'{missing[2]} values'}"
    message = re.sub(r"\s*Got errors:.*", "", message)
    unknown = re.fullmatch(r"Unrecognized options: (.*)", message)
    if unknown is not None:
        spaces = "" if unknown[1].startswith("-") else "; quote a path that has spaces"
        return f"not understood: {unknown[1]}{spaces} (`twoviews {command} --help` explains)"
    return message
