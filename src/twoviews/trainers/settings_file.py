"""A run's settings as YAML, and what of them may differ when it is started again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from twoviews.errors import SettingsError
from twoviews.settings import Settings

# What may differ between two starts of one run, each with the reason why it changes none of its numbers. Everything
# else may not, also where a change might be harmless: ``minutes`` (it decided the epochs at the first start; another
# value would be ignored), ``monitor_epochs`` (rows of metrics.jsonl would be missing), ``chunk_size`` (the same
# gradient in exact numbers, other last bits), ``max_pixels`` and ``follow_links`` (they decide which images there are).
FREE = {
    "out": "where the run folder lies, which may be moved",
    "new": "how the run was begun",
    "fork": "how the run was begun; the weights it took are in its folder",
    "config": "where values came from; the values themselves are compared",
    "recipe": "where values came from; the values themselves are compared",
    "device": "where it computes; recorded, and a start elsewhere warns",
    "devices": "as device; the batch must stay as large, which is checked when training begins",
    "threads": "as device",
    "jobs": "how many parts of a study are trained at once; each records its threads",
    "data_root": "where STL10 and CIFAR-10 lie; the images are compared by their pixels",
    "cache": "where decoded images lie; the images are compared by their pixels",
    "max_bad": "decides only whether a run begins, not which images it takes",
    "checkpoint_minutes": "how often it saves, which changes no bit",
    "cuda_graphs": "a step that is played back computes the bits of one that is not",
}
# Where images lie. A folder may be moved: free, as long as the images in it are the same.
PLACES = ("data", "unlabeled", "train", "val", "test")
_PATHS = {*PLACES, "run", "init"}


def dump_settings(settings: Settings) -> str:
    """Settings as YAML that ``--config`` reads back."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def load_settings(path: Path) -> dict[str, Any]:
    """A YAML file of settings.

    Raises:
        SettingsError: missing, or not a mapping of settings.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)
    except OSError as error:
        raise SettingsError(f"{path} can't be read ({error.strerror}).") from error
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise SettingsError(f"{path} is not YAML: {_what_is_wrong(error)}") from error
    except RecursionError as error:
        raise SettingsError(f"{path} is nested too deeply to be settings.") from error
    if not isinstance(content, dict):
        raise SettingsError(f"{path} holds no settings (a mapping of names to values).")
    return content


def _what_is_wrong(error: Exception) -> str:
    """A fault in YAML in words: the line, and what stands there."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not text in UTF-8"
    if not isinstance(error, yaml.MarkedYAMLError):
        return " ".join(str(error).split())
    what = error.problem or error.context or "it can't be read"
    if "'\\t'" in what:
        what = "a tab; use spaces"
    elif what == "but found another document":
        what = "a second document begins; keep one"
    mark = error.problem_mark or error.context_mark
    return f"line {mark.line + 1}: {what}" if mark is not None else what


class _UniqueKeys(yaml.SafeLoader):
    """A safe loader that refuses a key that stands twice, and one that is no name."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is not a name", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key} stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def differences(settings: Settings, saved: dict[str, Any]) -> dict[str, str]:
    """What a start with ``settings`` would change in a run begun with ``saved``: dotted name → both values in words."""
    try:
        # What a newer version has and the saved file has not is at its default.
        before = type(settings).model_validate(saved).model_dump(mode="json")
    except ValueError:
        before = saved
    now = settings.model_dump(mode="json")
    folders = (before.get("out"), now.get("out"))
    return dict(_differences(before, now, folders))


def _differences(
    before: dict[str, Any], now: dict[str, Any], folders: tuple[Any, Any], prefix: str = ""
) -> Iterator[tuple[str, str]]:
    for key in [*before, *(k for k in now if k not in before)]:
        if key in FREE:
            continue
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(old, new, folders, f"{prefix}{key}.")
        elif old != new and not (key in _PATHS and _same_place(old, new, folders)):
            yield f"{prefix}{key}", f"{prefix}{key}: {old} there, {new} now"


def _same_place(old: Any, new: Any, folders: tuple[Any, Any]) -> bool:
    """Whether two paths are one in other words, or lie alike beside a run folder that was moved with them."""
    if not (isinstance(old, str) and isinstance(new, str)):
        return False
    if os.path.abspath(old) == os.path.abspath(new):
        return True
    there, here = folders
    if not (isinstance(there, str) and isinstance(here, str)):
        return False
    return os.path.relpath(old, there) == os.path.relpath(new, here)
