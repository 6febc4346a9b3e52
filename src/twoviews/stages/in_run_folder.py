"""A command's work in its run folder: found or made, locked, described, and finished once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twoviews.dataset.parts import named_parts
from twoviews.dataset.sources import short_name
from twoviews.errors import CheckpointError, DataError, SettingsError
from twoviews.stages.data_files import write_data
from twoviews.stages.folders import OUTPUT
from twoviews.stages.setup import Shared
from twoviews.trainers.determinism import naming_operations
from twoviews.trainers.fork import copy_weights, origin_of
from twoviews.trainers.heap import freed_memory_kept
from twoviews.trainers.progress import say
from twoviews.trainers.run_folder import RunFolder


def in_run_folder(
    command: str,
    settings: Any,
    shared: Shared,
    work: Callable[[RunFolder], None],
    when_finished: Callable[[Path], None] | None = None,
) -> Path:
    """Do a command's work in its run folder, or, where that was done before, ``when_finished`` in the first process.

    Returns:
        The folder.
    """
    name = short_name(settings.data, named_parts(settings).values())
    default = settings.out or OUTPUT / f"{command}-{name}"
    machine = shared.engine.describe()
    # The first process finds the folder (--new makes it a new one) and the others follow.
    first = None
    if shared.engine.is_first:
        first = RunFolder.open(settings, default, machine=machine, data=shared.splits.fingerprint, fork=copy_weights)
    path = Path(shared.engine.share(str(first.path if first else default)))
    run = first or RunFolder(path, writes=False)
    try:
        # What the first process finds holds for all: they may not see its folder, and it may finish before they look.
        finished = bool(shared.engine.share("finished" if run.finished else ""))
        if finished:
            if shared.engine.is_first:
                say(f"{command}: already complete in {run.path}; use --new to run it again beside it")
                if when_finished is not None:
                    when_finished(run.path)
            return run.path
        say(f"{command}: {run.path}, seed {settings.seed}")
        run.write_environment(machine, **origin_of(run.path))
        if shared.engine.is_first and not shared.data_written:
            write_data(run.path, shared.splits)
        shared.data_written = True
        with naming_operations(), freed_memory_kept():
            work(run)
        shared.engine.barrier()
        say(f"{command}: results in {run.path}")
    except (SettingsError, DataError, CheckpointError, KeyboardInterrupt):
        run.forget()  # where nothing came of it, the corrected command finds the place free
        raise
    finally:
        run.release()
    return run.path
