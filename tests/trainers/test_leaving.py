"""A process that is one of several ends at once where it fails, whatever waits at Python's end."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

# What Fabric registers for NCCL waits for the other processes; here a minute stands for them.
BEGIN = """
import atexit, subprocess, sys, time
atexit.register(time.sleep, 60)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
from twoviews import cli
from twoviews.trainers import leaving
leaving.is_one_of_several([child])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it looks at /proc")
@pytest.mark.parametrize(
    ("work", "code", "said"),
    [
        ('cli.main(["pretrain", "no-such-folder"])', 3, "twoviews: no-such-folder"),
        ("cli._run = lambda *_: 1 / 0; cli.main(['pretrain', 'sample'])", 1, "ZeroDivisionError"),
    ],
)
def test_it_and_what_it_started_end(work: str, code: int, said: str) -> None:
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-c", BEGIN + work], capture_output=True, text=True, timeout=55, check=False)
    assert time.monotonic() - begun < 50
    assert done.returncode == code, done.stderr
    assert done.stderr.count(said) == 1
    assert _ends(int(done.stdout.split()[0]))


def _ends(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    for _ in range(100):
        try:
            if stat.read_text().rpartition(")")[2].split()[0] == "Z":  # nobody asked how it ended
                return True
        except OSError:
            return True
        time.sleep(0.1)
    return False


def test_a_process_that_is_alone_returns_its_code() -> None:
    code = "from twoviews import cli; assert cli.main(['pretrian']) == 2; print('after')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=55, check=True)
    assert done.stdout == "after\n"
