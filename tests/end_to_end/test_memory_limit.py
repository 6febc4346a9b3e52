"""Memory that does run out, under the real command: a limit of the system's, and the largest batch as measured."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from real_commands import FAST, environment

# What is loaded takes address space; the limit is set beside it, and is the system's own (as with `ulimit -v`).
# Without oneDNN, which may crash where it gets no memory.
LIMITED = """
import resource, sys
import torch
import twoviews.stages.pretrain
from lightning_fabric import Fabric
from twoviews.cli import main
from twoviews.model.batchnorm_start import compiled_for

compiled_for(torch.float32)  # a compiler that starts takes as much as a batch
torch.backends.mkldnn.set_flags(False)
taken = next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmSize"))
limit = taken + (int(sys.argv[1]) << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
sys.exit(main(sys.argv[2:]))
"""
BATCH = 256


def pretrain(work: Path, mebibytes: int, *more: object) -> subprocess.CompletedProcess[str]:
    command = ["pretrain", "photos", *FAST, "--view-size", 24, "--epochs", 1, "--warmup-epochs", 0, *more]
    return subprocess.run(
        [sys.executable, "-c", LIMITED, str(mebibytes), *map(str, command)],
        cwd=work,
        env={**environment(), "MALLOC_ARENA_MAX": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the size of the process is read from /proc")
def test_the_command_ends_with_the_largest_batch_that_fits(tmp_path: Path) -> None:
    folder = tmp_path / "photos/unlabeled"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(BATCH):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / f"{i:03d}.png")
    done = pretrain(tmp_path, 300, "--batch-size", BATCH)
    assert done.returncode == 6, done.stdout + done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    found = re.match(
        rf"twoviews: pretrain: a batch of {BATCH} images does not fit in memory; (\d+) fit as measured: use "
        r"--batch-size (\d+), or keep the batch with --chunk-size \d+\.$",
        done.stderr,
    )
    assert found, done.stderr
    fitting = int(found[2])
    assert int(found[1]) == fitting
    assert 16 < fitting < BATCH
    assert not (tmp_path / "output/pretrain-photos/checkpoints").exists()
    # In another process it is about right: its heap has other gaps.
    done = pretrain(tmp_path, 300, "--new", "--batch-size", fitting * 3 // 4)
    assert done.returncode == 0, done.stderr
