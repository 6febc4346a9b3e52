"""How many processors are used: those this process may run on, and no more than a container's share of time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from twoviews import cpus
from twoviews.dataset import decode_workers
from twoviews.dataset.scan import FoundFile

LIMITS = [
    ({"cpu.max": "150000 100000\n"}, 2),
    ({"cpu.max": "50000 100000\n"}, 1),
    ({"cpu.max": "max 100000\n"}, 8),
    ({"cpu.max": "6400000 100000\n"}, 8),
    ({"cpu.max": "what?\n"}, 8),
    ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
    ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
    ({}, 8),
]


def limit(monkeypatch: pytest.MonkeyPatch, folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="ascii")
    monkeypatch.setattr(cpus, "_GROUP", folder)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)


@pytest.mark.parametrize(("files", "expected"), LIMITS)
def test_a_container_s_share_of_time_counts(
    files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, tmp_path, files)
    assert cpus.usable_cpus() == expected


def test_where_a_process_can_not_ask_on_which_it_may_run_all_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, tmp_path, {})
    monkeypatch.delattr(os, "sched_getaffinity")  # macOS and Windows
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    assert cpus.usable_cpus() == 12


def test_windows_gets_no_more_processes_than_it_can_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python refuses more than 61 there."""
    asked: list[int] = []

    def start(workers: int) -> None:
        asked.append(workers)

    monkeypatch.setattr(decode_workers, "_start", start)
    monkeypatch.setattr(decode_workers, "decode_batch", lambda folder, batch, size, most: [None] * len(batch))
    files: list[Any] = [FoundFile(str(number), 1, 1) for number in range(16 * 100)]
    for platform in ("win32", "linux"):
        monkeypatch.setattr("sys.platform", platform)
        assert len(list(decode_workers.decode_all("", files, 8, 100, 96))) == len(files)
    assert asked == [61, 96]
