"""How ``--help`` shows a command's settings: what they take, and a default only where it is one."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import tyro
from pydantic import create_model
from pydantic.fields import FieldInfo

from twoviews import recipes, settings

_KINDS: dict[Any, str] = {Path: "PATH", int: "INT", float: "FLOAT"}
# Text that is more than text.
_TEXTS = {
    "data": "DATA",
    "backbone": "MODEL",
    "init": "FILE",
    "recipe": "NAME",
    "labels_per_class": "N,N,...",
    "label_fractions": "X,X,...",
    "map_splits": "SPLITS",
}


def for_help(kind: type[settings.Settings], command: str, inherited: Iterable[str] = ()) -> type[settings.Settings]:
    """A command's settings to be shown and not to be used; those ``inherited`` are at first as in the run."""
    elsewhere: dict[str, str] = {}
    if issubclass(kind, settings.DataSettings):
        for name in recipes.RECIPES:
            of_recipe = _dotted(recipes.recipe_settings(name, None if command == "study" else command))
            elsewhere |= dict.fromkeys(of_recipe, "by recipe")
    return _shown(kind, elsewhere | dict.fromkeys(inherited, "the run's"), "")


def _dotted(values: dict[str, Any]) -> set[str]:
    """What a recipe sets, as ``pretrain.epochs``."""
    keys: set[str] = set()
    for key, value in values.items():
        keys |= {f"{key}.{below}" for below in value} if key in recipes.STAGES else {key}
    return keys


def _shown(kind: type[settings.Settings], elsewhere: Mapping[str, str], prefix: str) -> type[settings.Settings]:
    fields: dict[str, Any] = {}
    for name, field in kind.model_fields.items():
        group = field.annotation
        if inspect.isclass(group) and issubclass(group, settings.Settings):
            below = _shown(group, elsewhere, f"{prefix}{name}.")
            shown = copy.copy(field)
            shown.default_factory = below
            fields[name] = (below, shown)
        else:
            words = tyro.conf.arg(
                metavar=_takes(name, field), help_behavior_hint=_default(field, elsewhere.get(prefix + name))
            )
            fields[name] = (Annotated[(group, *field.metadata, words)], field)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a setting called as one of pydantic's methods, said once already
        return create_model(kind.__name__, __base__=kind, __doc__=kind.__doc__, **fields)


def _default(field: FieldInfo, elsewhere: str | None) -> str | None:
    """What follows the description, ``elsewhere`` being where a value comes from; None leaves it to the parser."""
    if "default" in (field.description or ""):
        return ""
    if elsewhere == "by recipe" or (elsewhere and field.default is not None):
        return f"(default: {elsewhere})"
    return "" if field.default is None or field.default == () else None


def _takes(name: str, field: FieldInfo) -> str | None:
    """What a setting takes, in a word; None leaves it to the parser."""
    if tyro.conf.Positional in field.metadata:
        word = "RUN ..." if name == "runs" else name.upper()
        return None if get_origin(field.annotation) is Literal else word if field.is_required() else f"[{word}]"
    kinds = [field.annotation]
    if get_origin(field.annotation) in (Union, UnionType):
        kinds = [kind for kind in get_args(field.annotation) if kind is not NoneType]
    if get_origin(kinds[0]) is Literal:
        return "{" + ",".join(map(str, get_args(kinds[0]))) + "}"
    return _TEXTS.get(name, "TEXT") if kinds[0] is str else _KINDS.get(kinds[0])
