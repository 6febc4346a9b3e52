"""How threads wait for each other is said before a command's libraries are loaded, unless the user has said it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from twoviews import cli, cpus
from twoviews.cpus import let_waiting_threads_sleep
from twoviews.processor import multiplies_in_bf16

LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
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
    for name in LIMITS:
        monkeypatch.delenv(name, raising=False)
    for vendor, flags, limit, set_to in (
        ("AuthenticAMD", "fpu avx2 avx512f avx512_bf16", "", None),
        ("GenuineIntel", "fpu avx2 avx512f avx512_bf16", "", "PASSIVE"),  # slower in bf16 than in float32
        ("GenuineIntel", "fpu avx512_bf16 amx_bf16", "", None),
        ("GenuineIntel", "fpu avx512_bf16 amx_bf16", "AVX512_CORE_BF16", "PASSIVE"),
        ("AuthenticAMD", "fpu avx512_bf16", "AVX512_CORE_BF16", None),
        ("AuthenticAMD", "fpu avx512_bf16", "AVX2", "PASSIVE"),
        ("AuthenticAMD", "fpu avx2", "", "PASSIVE"),
    ):
        text = f"processor : 0\nvendor_id\t: {vendor}\nflags\t\t: {flags}\nbugs : none\n"
        cpuinfo.write_text(text, encoding="utf-8")
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
        monkeypatch.setenv("OMP_WAIT_POLICY", "x")  # so that it is taken back
        monkeypatch.delenv("OMP_WAIT_POLICY")
        let_waiting_threads_sleep()
        assert os.environ.get("OMP_WAIT_POLICY") == set_to, (vendor, flags, limit)
    cpuinfo.unlink()
    monkeypatch.delenv("OMP_WAIT_POLICY")
    let_waiting_threads_sleep()
    assert os.environ.get("OMP_WAIT_POLICY") == "PASSIVE"


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="asks Linux")
def test_what_the_system_says_of_bf16_is_what_pytorch_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert cpus._computes_in_bf16() == multiplies_in_bf16()


@pytest.mark.parametrize("limit", ["AVX512_CORE_VNNI", "AVX512_CORE_BF16"])
def test_a_limit_of_onednn_s_is_kept_to(limit: str) -> None:
    """From its start a process computes in what is left, so another processor can be tried on this one."""
    code = (
        "from twoviews import cpus, processor; "
        "print(processor.multiplies_in_bf16(), cpus._computes_in_bf16(), processor.multiplies_in_tiles())"
    )
    given = {**os.environ, "ONEDNN_MAX_CPU_ISA": limit}
    ran = subprocess.run([sys.executable, "-c", code], env=given, capture_output=True, text=True, check=True)
    by_torch, by_system, in_tiles = ran.stdout.split()
    assert in_tiles == "False"
    if limit == "AVX512_CORE_VNNI":
        assert by_torch == "False"
    assert by_torch == by_system or not Path("/proc/cpuinfo").exists()


@pytest.mark.parametrize("system", ["Intel64 Family 6 Model 143 Stepping 8, GenuineIntel", "AMD64 Family 25 Model 97"])
def test_where_there_is_no_cpuinfo_the_platform_is_asked(
    system: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpus, "_CPUINFO", tmp_path / "none")
    monkeypatch.setattr(cpus.platform, "processor", lambda: system)
    assert cpus.gains_by_bf16(avx512=True, amx=False) == ("Intel" not in system)
    assert cpus.gains_by_bf16(avx512=True, amx=True)
    assert not cpus.gains_by_bf16(avx512=False, amx=False)
