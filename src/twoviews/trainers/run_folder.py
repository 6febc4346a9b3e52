"""The folder of a run: whose settings it holds, what it has logged, whether it is finished."""

from __future__ import annotations

import os
import platform
import sys
from contextlib import suppress
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

import twoviews
from twoviews.errors import ResourceError, SettingsError
from twoviews.files import append_json_line, read_json, read_json_lines, write_bytes, write_json, write_text
from twoviews.settings import RunSettings, Settings

# Where and how a run computes may change between two starts of it; what it computes may not.
_FREE = {
    "out", "new", "config", "recipe", "device", "devices", "threads", "data_root", "cache", "checkpoint_minutes",
}  # fmt: skip
_PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "lightning-fabric",
    "numpy",
    "scikit-learn",
    "openTSNE",
    "pillow",
)


class RunFolder:
    """One run's files. Only the first process writes."""

    def __init__(self, path: Path, writes: bool = True) -> None:
        self.path = path
        self.writes = writes
        self.metrics = path / "metrics.jsonl"
        self.checkpoints = path / "checkpoints"
        self.logs = path / "logs"
        self.models = path / "models"
        self._lock: FileLock | None = None

    @classmethod
    def open(cls, settings: RunSettings, default: Path) -> RunFolder:
        """The run folder of these settings: made, or found with the same settings.

        Raises:
            SettingsError: the folder holds another run, or files that are no run.
            ResourceError: another process works on it, or it can't be written.
        """
        path = settings.out or default
        if settings.new:
            path = _next_free(path)
        run = cls(path)
        run._take_lock()
        try:
            run._claim(settings)
        except BaseException:
            if not (path / "settings.yaml").exists():
                with suppress(OSError):  # no run: the folder is left as it was
                    (path / ".lock").unlink()
            run.release()
            raise
        return run

    def _claim(self, settings: RunSettings) -> None:
        saved = self.path / "settings.yaml"
        if saved.exists():
            return self._compare(settings)
        others = [p.name for p in self.path.iterdir() if p.name != ".lock"]
        if others:
            raise SettingsError(
                f"{self.path} is not empty and holds no run ({others[0]}, ...); name another folder with --out."
            )
        return write_text(saved, dump_settings(settings))

    def _take_lock(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.path / ".lock")
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise ResourceError(
                f"{self.path} is in use by another twoviews process; wait for it, or start beside it with --new."
            ) from error
        except OSError as error:
            raise ResourceError(
                f"{self.path} can't be written ({error.strerror}); name another folder with --out."
            ) from error

    def release(self) -> None:
        """Let other processes have the folder."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _compare(self, settings: Settings) -> None:
        before = load_settings(self.path / "settings.yaml")
        now = yaml.safe_load(dump_settings(settings))
        differences = list(_differences(before, now))
        if differences:
            shown = "; ".join(differences[:6]) + (f"; and {len(differences) - 6} more" if len(differences) > 6 else "")
            raise SettingsError(
                f"{self.path} holds a run with other settings ({shown}); use those, or start beside it with --new."
            )

    @property
    def finished(self) -> bool:
        """Whether the run has written its results."""
        return (self.path / "results.json").exists()

    def results(self) -> dict[str, Any]:
        """What the run has found."""
        content = read_json(self.path / "results.json")
        assert isinstance(content, dict)
        return content

    def finish(self, results: dict[str, Any]) -> None:
        """Write results.json: from now on the run is finished."""
        if self.writes:
            write_json(self.path / "results.json", results)

    def write_environment(self, machine: dict[str, Any]) -> None:
        """Record versions, machine and command; no environment variable is written."""
        if not self.writes or (self.path / "environment.json").exists():
            return
        versions = {name: _version(name) for name in _PACKAGES}
        content = {
            "twoviews": twoviews.__version__,
            "python": platform.python_version(),
            **versions,
            "machine": {"cpu": _cpu_name(), "cores": os.cpu_count(), "memory_gb": _memory_gb(), **machine},
            "command": " ".join(["twoviews", *sys.argv[1:]]),
            "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        write_json(self.path / "environment.json", content)

    def metrics_bytes(self) -> int:
        """Length of metrics.jsonl."""
        return self.metrics.stat().st_size if self.metrics.exists() else 0

    def cut_metrics(self, length: int) -> None:
        """Take back rows that were logged after the checkpoint, so that no epoch stands twice."""
        if self.writes and self.metrics_bytes() > length:
            write_bytes(self.metrics, self.metrics.read_bytes()[:length])

    def add_epoch(self, row: dict[str, Any], timing: dict[str, float]) -> None:
        """Log an epoch: figures in metrics.jsonl, which every repetition repeats; times in timing.jsonl."""
        append_json_line(self.metrics, row)
        append_json_line(self.path / "timing.jsonl", {"epoch": row["epoch"], **timing})

    def seconds(self) -> float:
        """Training time of all epochs so far; an epoch that was redone counts once."""
        rows = read_json_lines(self.path / "timing.jsonl")
        return sum({row["epoch"]: float(row["seconds"]) for row in rows}.values())


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
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise SettingsError(f"{path} holds no settings (a mapping of names to values).")
    return content


class _UniqueKeys(yaml.SafeLoader):
    """A safe loader that refuses a key that stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _differences(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> Any:
    for key in [*before, *(k for k in now if k not in before)]:
        if key in _FREE:
            continue
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(old, new, f"{prefix}{key}.")
        elif old != new:
            yield f"{prefix}{key}: {old} there, {new} now"


def _next_free(path: Path) -> Path:
    if not path.exists():
        return path
    number = 2
    while path.with_name(f"{path.name}-{number}").exists():
        number += 1
    return path.with_name(f"{path.name}-{number}")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None
