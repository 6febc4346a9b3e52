"""How threads wait for each other is said before a command's libraries are loaded, unless the user has said it."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from twoviews import cli, cpus
from twoviews.cpus import let_waiting_threads_sleep
from twoviews.processor import multiplies_in_bf16

NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpus, "_computes_in_bf16", lambda: False)
    for name in NAMES:
        monkeypatch.setenv(name, "1")  # so that whatever a test leaves is taken back
        monkeypatch.delenv(name)


def test_a_command_says_it_before_its_work_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def load(name: str) -> SimpleNamespace:
        seen.append((name, os.environ.get("OMP_WAIT_POLICY")))
        return SimpleNamespace(run_bench=lambda settings: None)

    monkeypatch.setattr(cli, "importlib", SimpleNamespace(import_module=load))
    assert cli.main(["bench", "loss"]) == 0
    assert seen == [("twoviews.stages.bench", "PASSIVE")]


@pytest.mark.parametrize("name", NAMES)
def test_what_the_user_says_holds(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "ACTIVE")
    let_waiting_threads_sleep()
    assert {each: os.environ.get(each) for each in NAMES} == {
        each: "ACTIVE" if each == name else None for each in NAMES
    }


def test_processors_that_multiply_in_bf16_keep_openmp_s_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    cpuinfo = tmp_path / "cpuinfo"
    monkeypatch.setattr(cpus, "_CPUINFO", cpuinfo)
    for flags, set_to in (("fpu avx2 avx512f avx512_bf16", None), ("fpu amx_bf16", None), ("fpu avx2", "PASSIVE")):
        cpuinfo.write_text(f"processor : 0\nflags\t\t: {flags}\nbugs : none\n", encoding="utf-8")
        monkeypatch.setenv("OMP_WAIT_POLICY", "x")  # so that it is taken back
        monkeypatch.delenv("OMP_WAIT_POLICY")
        let_waiting_threads_sleep()
        assert os.environ.get("OMP_WAIT_POLICY") == set_to
    cpuinfo.unlink()
    monkeypatch.delenv("OMP_WAIT_POLICY")
    let_waiting_threads_sleep()
    assert os.environ.get("OMP_WAIT_POLICY") == "PASSIVE"


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="asks Linux")
def test_what_the_system_says_of_bf16_is_what_pytorch_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert cpus._computes_in_bf16() == multiplies_in_bf16()
