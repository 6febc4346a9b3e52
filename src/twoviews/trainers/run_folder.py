"""The folder of a run: whose settings it holds, what it has logged, whether it is finished."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from twoviews import disk
from twoviews.dataset.fingerprint import Fingerprint
from twoviews.errors import SettingsError
from twoviews.files import (
    append_json_line,
    read_json_lines,
    read_record,
    sweep,
    write_bytes,
    write_json,
    write_text,
)
from twoviews.settings import RunSettings
from twoviews.trainers.environment import record_start
from twoviews.trainers.folder_lock import HOLDER, LOCK, FolderLock
from twoviews.trainers.progress import say
from twoviews.trainers.resume import DATA_INDEX, keep_fingerprint, require_same_run
from twoviews.trainers.settings_file import dump_settings

# What a run writes down before it computes.
_RECORDS = {
    LOCK, HOLDER, DATA_INDEX, "settings.yaml", "environment.json", "plan.json", "seconds.json", "start.safetensors",
    "data.json", "skipped.csv", "leaks.csv", "leaks.webp", "conflicts.csv", "views.png", "views.webp", "views.json",
}  # fmt: skip


class RunFolder:
    """One run's files. Only the first process writes.

    Attributes:
        path: the folder.
        writes: whether this process is the first.
    """

    def __init__(self, path: Path, writes: bool = True) -> None:
        self.path = path
        self.writes = writes
        self.metrics = path / "metrics.jsonl"
        self.checkpoints = path / "checkpoints"
        self.logs = path / "logs"
        self.models = path / "models"
        self._made = False
        self._lock = FolderLock(path)

    @classmethod
    def open(
        cls,
        settings: RunSettings,
        default: Path,
        *,
        machine: dict[str, Any] | None = None,
        data: Fingerprint | None = None,
        fork: Callable[[Path, Path], None] | None = None,
    ) -> RunFolder:
        """The run folder of these settings: made, or found with the same settings, data and precision.

        Args:
            settings: of the run.
            default: the folder where they name none.
            machine: where this start computes, to be compared with the first start.
            data: what its images are, to be kept and compared.
            fork: with ``--fork``, puts the weights of one run into the folder of another.

        Raises:
            SettingsError: the folder holds another run, or files that are no run.
            CheckpointError: the images have changed since the run began.
            ResourceError: another process works on it, or it can't be written.
        """
        path = settings.out or default
        source = path if settings.fork else None
        if source is not None and not (source / "settings.yaml").exists():
            raise SettingsError(f"--fork: {source} holds no run to start from; leave --fork out to begin one.")
        if settings.new or source is not None:
            path = _next_free(path)
        run = cls(path)
        made = not path.exists()
        run._lock.take()
        try:
            run._made = made and not (path / "settings.yaml").exists()
            if (path / "settings.yaml").exists():
                require_same_run(path, settings, machine, data)
            else:
                run._require_empty()
                if fork is not None and source is not None:
                    fork(source, path)
                # From here on it is a run: what makes it one comes last.
                write_text(path / "settings.yaml", dump_settings(settings))
            for folder in (path, run.logs, run.models, run.checkpoints):
                sweep(folder)
            keep_fingerprint(path, data)
        except BaseException:
            if not (path / "settings.yaml").exists():
                run.forget()
            run.release()
            raise
        return run

    @classmethod
    def to_read(cls, path: Path) -> RunFolder:
        """A run that is there, locked and not written to.

        Raises:
            ResourceError: another process works on it, or it can't be locked.
        """
        run = cls(path, writes=False)
        run._lock.take()
        return run

    def _require_empty(self) -> None:
        ours = (LOCK, f".{HOLDER}.tmp-", ".settings.yaml.tmp-")
        others = [p.name for p in self.path.iterdir() if not p.name.startswith(ours)]
        if others:
            raise SettingsError(
                f"{self.path} is not empty and holds no run ({others[0]}, ...); name another folder with --out."
            )

    def forget(self) -> None:
        """Leave the place of a run that failed before it computed anything as this process found it.

        Only a folder that this process made is deleted, and only where it holds nothing but records of the start.
        """
        if not self.writes:
            return
        files = [path for path in self.path.rglob("*") if not path.is_dir()]
        with suppress(OSError):  # why it failed is on its way to the user
            if self._made and all(path.name in _RECORDS for path in files):
                # What makes it a run goes last: killed in between, it is still one.
                for path in files:
                    if path.name not in ("settings.yaml", LOCK):
                        disk.remove_file(path)
                disk.remove_folder(self.path)
            elif not (self.path / "settings.yaml").exists():
                disk.remove_file(self.path / LOCK)

    def release(self) -> None:
        """Let other processes have the folder."""
        self._lock.release()

    @property
    def finished(self) -> bool:
        """Whether the run has written its results.

        Raises:
            CheckpointError: they are damaged.
        """
        return (self.path / "results.json").exists() and bool(self.results())

    def results(self) -> dict[str, Any]:
        """What the run has found.

        Raises:
            CheckpointError: results.json is damaged.
        """
        return read_record(self.path / "results.json", "delete it, and the same command writes it anew")

    def finish(self, results: dict[str, Any]) -> None:
        """Write results.json: from now on the run is finished."""
        if self.writes:
            write_json(self.path / "results.json", results)

    def write_environment(self, machine: dict[str, Any], **more: Any) -> None:
        """Record versions, machine and command of this start; warn where they are not those of the first one."""
        if not self.writes:
            return
        changes = record_start(self.path / "environment.json", machine, more)
        if changes:
            say(
                f"warning: {self.path} goes on with {', '.join(changes)}: the result may differ in its last bits from "
                "a run that never stopped"
            )

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


def _next_free(path: Path) -> Path:
    if not path.exists():
        return path
    number = 2
    while path.with_name(f"{path.name}-{number}").exists():
        number += 1
    return path.with_name(f"{path.name}-{number}")
