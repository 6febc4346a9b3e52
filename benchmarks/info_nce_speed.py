"""InfoNCE with the whole similarity matrix (dense) against tiles: seconds of forward and backward, and peak memory.

    OMP_NUM_THREADS=2 python benchmarks/info_nce_speed.py [--rows 2048 8192 16384] [--width 128] [--repeats 5]
        [--dense-up-to 16384] [--candidates] [--temperature 0.2] [--device cpu]

One JSON line a size: the fastest of the repeats, the two forms in turn in one process; and the memory that one forward
and backward takes beyond its input at its peak, each in a process of its own. ROWS are 2N. --candidates hands the
projections in once more as candidates, as several processes have them. Above --dense-up-to rows dense is left out.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from machine import machine

from twoviews.loss_functions.info_nce import info_nce_dense
from twoviews.loss_functions.tiles import info_nce_in_tiles

FORMS = {"dense": info_nce_dense, "tiles": info_nce_in_tiles}
STATUS = Path("/proc/self/status")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[2048, 8192, 16384])
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dense-up-to", type=int, default=16384)
    parser.add_argument("--candidates", action="store_true")
    parser.add_argument("--temperature", type=float, default=0.2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--peak-of", choices=FORMS, help="only the peak of this form, in this process")
    arguments = parser.parse_args()
    for rows in arguments.rows:
        if arguments.peak_of:
            print(json.dumps(peak_beyond_input(arguments.peak_of, rows, arguments)))
            continue
        forms = [form for form in FORMS if form == "tiles" or rows <= arguments.dense_up_to]
        seconds: dict[str, list[float]] = {form: [] for form in forms}
        for _ in range(arguments.repeats):
            for form in forms:
                seconds[form].append(seconds_of(form, rows, arguments))
        result: dict[str, Any] = {"rows": rows, "width": arguments.width, "candidates": arguments.candidates}
        result |= {f"{form}_seconds": round(min(times), 4) for form, times in seconds.items()}
        result |= {f"{form}_peak_mib": peak_in_fresh_process(form, rows) for form in forms}
        result |= {"device": arguments.device, "threads": torch.get_num_threads()}
        print(json.dumps(result), flush=True)
    if not arguments.peak_of:
        print(json.dumps({"repeats": arguments.repeats, **machine()}))


def make_projections(rows: int, arguments: argparse.Namespace) -> torch.Tensor:
    """Views that resemble each other, of length 1; made in place, so that nothing stands beside them at the peak."""
    z = torch.randn(rows, arguments.width, generator=torch.Generator().manual_seed(0))
    z[rows // 2 :] += z[: rows // 2]
    z /= z.norm(dim=1, keepdim=True)
    return z.to(arguments.device).requires_grad_()


def work(form: str, z: torch.Tensor, arguments: argparse.Namespace) -> None:
    loss, _ = FORMS[form](z, z.clone() if arguments.candidates else None, arguments.temperature)
    loss.backward()
    assert z.grad is not None
    float(z.grad[0, 0])  # on a GPU: waits until it is there


def seconds_of(form: str, rows: int, arguments: argparse.Namespace) -> float:
    z = make_projections(rows, arguments)
    float(z.detach()[0, 0])
    started = time.perf_counter()
    work(form, z, arguments)
    return time.perf_counter() - started


def peak_in_fresh_process(form: str, rows: int) -> float | None:
    words = [sys.executable, __file__, *sys.argv[1:], "--rows", str(rows), "--peak-of", form]
    printed = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
    mebibytes: float | None = json.loads(printed)
    return mebibytes


def peak_beyond_input(form: str, rows: int, arguments: argparse.Namespace) -> float | None:
    """MiB; None on a CPU where the system does not tell (elsewhere than on Linux)."""
    work(form, make_projections(64, arguments), arguments)  # loads what is loaded at first use
    z = make_projections(rows, arguments)
    if z.is_cuda:
        before = torch.cuda.memory_allocated()
        work(form, z, arguments)
        return round((torch.cuda.max_memory_allocated() - before) / 2**20, 1)
    if not STATUS.exists():
        return None
    before = kib("VmRSS")
    work(form, z, arguments)
    return round((kib("VmHWM") - before) / 2**10, 1)


def kib(field: str) -> int:
    """This process's resident memory now (VmRSS) or at its most (VmHWM)."""
    return int(re.findall(rf"{field}:\s+(\d+) kB", STATUS.read_text())[0])


if __name__ == "__main__":
    main()
