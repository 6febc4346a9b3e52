"""The real command in a process of its own that is forked off one which has loaded what every command loads.

Loading torch and what is built on it takes longer than most of what is tested here. Where the loading itself is part
of what is tested (a path, a home, a missing library), the command is started as a user starts it:
``real_commands.fresh``.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from twoviews.cli import COMMANDS, main

# What commands load on their way, beside their own modules.
LATER = ("lightning_fabric.strategies.ddp", "torch._dynamo", "openTSNE", "rich.progress")
FORMATS = ("matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg")


def fork_server() -> multiprocessing.context.ForkServerContext:
    """The server, started at the first call."""
    works = {f"twoviews.{command.work.partition(':')[0]}" for command in COMMANDS.values()}
    # It only loads and computes nothing, so that a fork of it has no thread that went missing.
    multiprocessing.set_forkserver_preload(["twoviews.command_line", *sorted(works), *LATER, *FORMATS])
    multiprocessing.forkserver.ensure_running()
    return multiprocessing.get_context("forkserver")


Run = Callable[[list[str]], object]


class Forked:
    """``twoviews WORDS`` under way, with the part of ``subprocess.Popen`` that tests need.

    ``light`` is for where neither is the point: figures are not drawn, and how long training will take not measured.
    Both take longer than training these nets; the files of figures are there all the same. ``run`` is given the words.
    """

    def __init__(
        self, words: list[str], cwd: Path, env: Mapping[str, str], *, light: bool = False, run: Run = main
    ) -> None:
        self._said = [tempfile.NamedTemporaryFile() for _ in range(2)]  # noqa: SIM115  they live as long as this
        files = [file.name for file in self._said]
        self._process = fork_server().Process(target=_command, args=(words, str(cwd), dict(env), files, light, run))
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired("twoviews", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def said(self) -> tuple[str, str]:
        """Standard output and standard error so far."""
        out, err = (Path(file.name).read_text(encoding="utf-8") for file in self._said)
        return out, err


def run_forked(
    words: list[str], cwd: Path, env: Mapping[str, str], timeout: float, *, light: bool = False, run: Run = main
) -> subprocess.CompletedProcess[str]:
    """As ``subprocess.run``: to the end, or to ``subprocess.TimeoutExpired``."""
    process = Forked(words, cwd, env, light=light, run=run)
    try:
        code = process.wait(timeout)
    except BaseException:
        process.send_signal(signal.SIGKILL)
        process.wait()
        raise
    return subprocess.CompletedProcess(words, code, *process.said())


def _command(words: list[str], cwd: str, env: dict[str, str], files: list[str], light: bool, run: Run) -> None:
    """What ``python -m twoviews WORDS`` does once Python is there."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    tempfile.tempdir = None
    for number, name in enumerate([os.devnull, *files]):
        handle = os.open(name, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_APPEND)
        os.dup2(handle, number)
        os.close(handle)
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115  open to the end of the process
        for number, mode in enumerate("rww")
    )
    sys.argv = ["twoviews", *words]
    if light:
        _lighten()
    code = run(words)
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(code)  # type: ignore[arg-type]


def _lighten() -> None:
    """In this process, which is the command's alone."""
    from twoviews.report import style
    from twoviews.stages import plan, study_plan

    style.png_and_svg = lambda *_, **__: (b"pixels", b"shapes")
    plan.seconds_per_epoch = study_plan.seconds_per_epoch = lambda *_: 1.0
