"""What happens to the terminal does not happen to the run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# A command that shows progress and speaks, then leaves a file; it imports no torch.
COMMAND = """
import os, sys, time, types
from twoviews import cli
from twoviews.trainers.progress import Progress, say

def work(settings):
    say("begins \\u2014 \\u00e9\\u4e2d \\udcff")
    if "wait" in sys.argv:
        sys.stdin.readline()
    with Progress("pretrain", 2, 3, 0) as progress:
        for step in range(6):
            progress.step(step + 1, "loss 1")
            time.sleep(0.02)
            say("a line")
        progress.epoch(2, 6, "loss 1")
    print("an error line", file=sys.stderr)
    with open("left", "w") as file:
        file.write("whole")

sys.modules["twoviews.stages.report"] = types.SimpleNamespace(run_report=work)
sys.exit(cli.main(["report"]))
"""


def run(folder: Path, *words: str, **how: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-c", COMMAND, *words], cwd=folder, timeout=30, **how)  # type: ignore[call-overload, no-any-return]


def left(folder: Path) -> str:
    return (folder / "left").read_text()


def test_a_reader_that_has_gone(tmp_path: Path) -> None:
    for stream in ("stdout", "stderr"):
        read, write = os.pipe()
        os.close(read)
        done = run(tmp_path, **{stream: write}, **{"stderr" if stream == "stdout" else "stdout": subprocess.PIPE})
        os.close(write)
        assert done.returncode == 0, done.stderr
        assert b"Traceback" not in (done.stderr or b"")
        assert left(tmp_path) == "whole"
        (tmp_path / "left").unlink()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_log_on_a_full_disk(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = run(tmp_path, stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr, left(tmp_path)) == (0, b"an error line\n", "whole")


@pytest.mark.parametrize("closed", ["1>&-", "0<&- 1>&- 2>&-"])
def test_streams_that_were_never_open(closed: str, tmp_path: Path) -> None:
    (tmp_path / "command.py").write_text(COMMAND)
    done = subprocess.run(f"{sys.executable} command.py {closed}", shell=True, cwd=tmp_path, timeout=30)
    assert (done.returncode, left(tmp_path)) == (0, "whole")  # and nothing that was printed is in the file


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_a_terminal_that_is_closed_while_a_bar_moves(tmp_path: Path) -> None:
    terminal, inside = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "wait"], cwd=tmp_path, stdin=subprocess.PIPE, stdout=inside, stderr=inside
    )
    os.close(inside)
    assert b"begins" in os.read(terminal, 1000)
    os.close(terminal)
    assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.close()
    assert process.wait(30) == 0
    assert left(tmp_path) == "whole"


@pytest.mark.parametrize(
    "change",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "cp1252"},
        {"TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "40"},
    ],
    ids=str,
)
def test_letters_that_can_not_be_shown(change: dict[str, str], tmp_path: Path) -> None:
    done = run(tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **change})
    assert (done.returncode, done.stderr) == (0, b"an error line\n")
    assert done.stdout.startswith(b"begins")
    assert left(tmp_path) == "whole"


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
@pytest.mark.parametrize("change", [{"COLUMNS": "40"}, {"TERM": "dumb"}, {"NO_COLOR": "1"}], ids=str)
def test_terminals_of_all_kinds(change: dict[str, str], tmp_path: Path) -> None:
    terminal, inside = os.openpty()
    environment = {**os.environ, "TERM": "xterm", **change}
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND], cwd=tmp_path, stdout=inside, stderr=inside, env=environment
    )
    os.close(inside)
    shown = b""
    try:
        while part := os.read(terminal, 1000):
            shown += part
    except OSError:
        pass  # Linux's way to say that nobody is inside any more
    os.close(terminal)
    assert process.wait(30) == 0
    assert b"Traceback" not in shown
    assert b"a line" in shown
    assert (b"\x1b[" in shown) == (change != {"TERM": "dumb"})  # no cursor is moved where there is none
    if "NO_COLOR" in change:
        assert b"\x1b[3" not in shown
    if "COLUMNS" in change:
        assert "loss 1" in shown.decode(errors="replace")
