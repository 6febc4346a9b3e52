"""Several gloo processes that see the environment torchrun gives them; each leaves what it found in a file."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from twoviews.cli import main
from twoviews.settings import RunSettings
from twoviews.trainers import leaving
from twoviews.trainers.engine import Engine

sys.path.insert(0, str(Path(__file__).parents[1] / "end_to_end"))
from forked import fork_server, run_forked

__all__ = ["run_forked", "run_processes"]

Work = Callable[[Engine], dict[str, Any]]


def run_processes(work: Work, world: int, folder: Path) -> list[dict[str, Any]]:
    """``work`` in ``world`` processes, each with its engine; what each returned, process 0 first."""
    fork_server()
    mp.start_processes(_begin, (work, world, _free_port(), str(folder)), world, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(world)]


def _begin(rank: int, work: Work, world: int, port: int, folder: str) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "test",
    }
    torch.set_num_threads(1)
    engine = Engine(RunSettings(device="cpu", precision="float32"))
    assert (engine.rank, engine.world_size) == (rank, world)
    assert leaving._started == []  # torchrun started the others
    torch.save(work(engine), Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def torchrun(words: list[str], world: int) -> None:
    """What ``torchrun --standalone --nproc-per-node WORLD -m twoviews WORDS`` does, but for starting Python anew."""
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=world,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        run_id="test",
        start_method="fork",
    )
    elastic_launch(config, _twoviews)(words)


def _twoviews(words: list[str]) -> None:
    code = main(words)
    if code:
        sys.exit(code)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
