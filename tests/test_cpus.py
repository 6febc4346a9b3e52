"""How threads wait for each other is said before a command's libraries are loaded, unless the user has said it."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from twoviews import cli
from twoviews.cpus import let_waiting_threads_sleep

NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
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
