"""Signals: at once outside the training loop, after the step within it, and never a wrong exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from twoviews.errors import Stopped
from twoviews.trainers.signals import StoppedAtOnce, StopRequests

# A command whose work is what follows; it imports no torch.
COMMAND = """
import os, signal, sys, time, types
from twoviews import cli
from twoviews.trainers.progress import say

def work(settings):
{work}

sys.modules["twoviews.stages.report"] = types.SimpleNamespace(run_report=work)
sys.exit(cli.main(["report"]))
"""


def started(*work: str, **how: int) -> subprocess.Popen[str]:
    """A process of a command that does ``work``, once it has said that it is ready."""
    code = COMMAND.format(work="\n".join(f"    {line}" for line in work))
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate()
    return process


def rest(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code and what else it said; ``communicate`` would lose what lies in the buffer of the first line."""
    assert process.stdout is not None
    assert process.stderr is not None
    said, errors = process.stdout.read(), process.stderr.read()
    return process.wait(20), said, errors


CODES = {signal.SIGTERM: 143, signal.SIGUSR1: 143, signal.SIGINT: 130}


@pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
def test_outside_training_a_signal_ends_the_command_at_once(number: signal.Signals) -> None:
    process = started("say('ready')", "time.sleep(60)")
    begun = time.monotonic()
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == CODES[number]
    assert said == f"twoviews: stopped by {number.name}; what is done is kept, and the same command goes on from it\n"
    assert time.monotonic() - begun < 10


def test_what_tidies_up_still_does(tmp_path: Path) -> None:
    done = tmp_path / "done"
    process = started("try:", "    say('ready')", "    time.sleep(60)", f"finally: open({str(done)!r}, 'w').close()")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert (process.returncode, done.exists()) == (143, True)


def test_no_handler_of_errors_holds_it_up() -> None:
    process = started(
        "while True:", "    try:", "        say('ready')", "        time.sleep(60)", "    except Exception: pass"
    )
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 143


def test_python_s_own_clean_up_does_not_lose_it() -> None:
    """What is raised while memory is tidied is dropped by Python, and a signal is often taken there first."""
    process = started(
        "import gc, weakref",
        "class Thing: pass",
        "def gone(_):",
        "    say('ready')",
        "    time.sleep(1)",
        "thing = Thing()",
        "thing.me, reference = thing, weakref.ref(thing, gone)",
        "del thing",
        "gc.collect()",
        "time.sleep(60)",
    )
    process.send_signal(signal.SIGTERM)
    code, _, said = rest(process)
    assert code == 143
    assert said.startswith("twoviews: stopped by SIGTERM")
    assert said.count("\n") == 1


def test_a_library_that_swallows_it_does_not_hold_it_up_for_long() -> None:
    process = started(
        "from twoviews.trainers import signals",
        "signals._GRACE_SECONDS = 1.0",
        "while True:",
        "    try:",
        "        say('ready')",
        "        time.sleep(60)",
        "    except BaseException: pass",
    )
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    code, _, said = rest(process)
    assert code == 143
    assert said.startswith("twoviews: stopped by SIGTERM")
    assert 0.9 < time.monotonic() - begun < 20


def test_a_second_signal_ends_the_tidying() -> None:
    process = started(
        "try:", "    say('ready')", "    time.sleep(60)", "finally:", "    say('tidying')", "    time.sleep(60)"
    )
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert process.stdout.readline() == "tidying\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130


def test_a_closed_terminal_ends_nothing() -> None:
    process = started("say('ready')", "os.kill(os.getpid(), signal.SIGHUP)", "say('still here')")
    assert rest(process) == (0, "still here\n", "")


@pytest.mark.parametrize("name", ["WORLD_SIZE", "TORCHELASTIC_RUN_ID"])
def test_torchrun_passes_a_closed_terminal_on_and_the_step_is_saved(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "2")
    seen: list[int | None] = []
    with pytest.raises(Stopped) as stopped:
        loop(signal.SIGHUP, seen=seen)
    assert seen == [None, 143]
    assert stopped.value.exit_code == 143
    process = started("say('ready')", "os.kill(os.getpid(), signal.SIGHUP)", "time.sleep(60)")
    code, _, said = rest(process)
    assert code == 143
    assert "stopped by SIGHUP" in said


def test_a_process_that_a_library_forks_ends_as_any() -> None:
    process = started(
        "child = os.fork()",
        "if child == 0:",
        "    say('ready')",
        "    time.sleep(60)",
        "time.sleep(1)",
        "os.kill(child, signal.SIGTERM)",
        "say(str(os.waitpid(child, 0)[1]))",
    )
    assert rest(process) == (0, f"{signal.SIGTERM.value}\n", "")


def loop(*numbers: signal.Signals, seen: list[int | None], stops: Stopped | None = None) -> None:
    """What a training loop does that gets these signals; ``seen`` is what it was asked before and after each."""
    with StopRequests() as stop:
        seen.append(stop.exit_code)
        for number in numbers:
            os.kill(os.getpid(), number)
            seen.append(stop.exit_code)
        if stops is not None:
            raise stops


@pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
def test_within_training_the_first_signal_is_a_wish(number: signal.Signals) -> None:
    seen: list[int | None] = []
    with pytest.raises(Stopped) as stopped:
        loop(number, seen=seen)
    assert seen == [None, CODES[number]]
    assert stopped.value.exit_code == CODES[number]  # though the loop had ended before it looked


def test_the_loop_s_own_stop_is_the_one_that_is_said() -> None:
    with pytest.raises(Stopped, match="at step 7"):
        loop(signal.SIGTERM, seen=[], stops=Stopped("at step 7", 143))


def test_a_second_ctrl_c_ends_training_at_once() -> None:
    seen: list[int | None] = []
    with pytest.raises(KeyboardInterrupt) as stopped:
        loop(signal.SIGINT, signal.SIGINT, seen=seen)
    assert seen == [None, 130]
    assert isinstance(stopped.value, StoppedAtOnce)
    assert stopped.value.exit_code == 130


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGUSR1])
def test_a_scheduler_that_signals_twice_does_not_cost_the_checkpoint(first: signal.Signals) -> None:
    seen: list[int | None] = []
    with pytest.raises(Stopped):
        loop(first, signal.SIGTERM, seen=seen)
    assert seen == [None, 143, 143]


def test_handlers_are_as_they_were() -> None:
    before = [signal.getsignal(number) for number in CODES]
    with StopRequests():
        assert [signal.getsignal(number) for number in CODES] != before
    assert [signal.getsignal(number) for number in CODES] == before
