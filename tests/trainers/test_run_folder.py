"""The run folder: the same settings resume, others are refused, and two processes don't meet in it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from twoviews import cli
from twoviews.command_line import parse
from twoviews.errors import SettingsError
from twoviews.settings import PretrainCommand, StudyCommand
from twoviews.trainers.run_folder import RunFolder
from twoviews.trainers.settings_file import load_settings


def settings(**changes: Any) -> PretrainCommand:
    return PretrainCommand(**{"data": "photos", **changes})


def opened(given: Any, default: Path) -> Path:
    """Open the folder, let go of it."""
    run = RunFolder.open(given, default)
    run.release()
    return run.path


def test_the_same_settings_come_back_to_the_same_folder(tmp_path: Path) -> None:
    first = opened(settings(epochs=7), tmp_path / "run")
    (first / "metrics.jsonl").write_text("{}\n")
    assert opened(settings(epochs=7), tmp_path / "run") == first
    # Where and how it computes is free to change.
    elsewhere = {"device": "cpu", "threads": 1, "devices": 2, "checkpoint_minutes": 1.0, "data_root": Path("x")}
    elsewhere |= {"cache": Path("y"), "max_bad": 0.5, "recipe": "sample", "data": "./photos", "train": None}
    assert opened(settings(epochs=7, **elsewhere), tmp_path / "run") == first
    assert (first / "metrics.jsonl").exists()


def test_out_names_the_folder(tmp_path: Path) -> None:
    assert opened(settings(out=tmp_path / "mine"), tmp_path / "run") == tmp_path / "mine"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"epochs": 8}, "epochs: 7 there, 8 now"),
        ({"crop_scale": (0.3, 1.0)}, "crop_scale: [0.08, 1.0] there, [0.3, 1.0] now"),
        ({"seed": 3}, "seed: 0 there, 3 now"),
        ({"precision": "bf16"}, "precision: auto there, bf16 now"),
    ],
)
def test_other_settings_are_refused_by_name(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    opened(settings(epochs=7), tmp_path / "run")
    before = (tmp_path / "run/settings.yaml").read_bytes()
    with pytest.raises(SettingsError) as error:
        RunFolder.open(settings(**{"epochs": 7, **change}), tmp_path / "run")
    assert f"({named})" in str(error.value)
    assert "--new" in str(error.value)
    assert (tmp_path / "run/settings.yaml").read_bytes() == before
    assert opened(settings(epochs=7), tmp_path / "run")  # the refusal did not keep the lock


def test_a_study_s_difference_is_named_with_its_stage(tmp_path: Path) -> None:
    opened(StudyCommand(), tmp_path / "study")
    other = StudyCommand.model_validate({"pretrain": {"epochs": 5}})
    with pytest.raises(SettingsError, match=r"pretrain\.epochs: 100 there, 5 now"):
        RunFolder.open(other, tmp_path / "study")


def test_new_is_a_folder_beside_the_old(tmp_path: Path) -> None:
    paths = [opened(settings(new=True), tmp_path / "run") for _ in range(3)]
    assert [p.name for p in paths] == ["run", "run-2", "run-3"]


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter1.txt").write_text("It was a dark night.")
    with pytest.raises(SettingsError, match=r"thesis is not empty and holds no run \(chapter1\.txt, \.\.\.\).*--out"):
        RunFolder.open(settings(), tmp_path / "thesis")
    assert [p.name for p in (tmp_path / "thesis").iterdir()] == ["chapter1.txt"]


OPEN = """
import sys
from pathlib import Path
from twoviews.errors import TwoviewsError
from twoviews.settings import PretrainCommand
from twoviews.trainers.run_folder import RunFolder
try:
    RunFolder.open(PretrainCommand(data="photos"), Path(sys.argv[1]))
except TwoviewsError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def test_a_second_process_is_kept_out_until_the_first_is_done(tmp_path: Path) -> None:
    def second() -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-c", OPEN, str(tmp_path / "run")]
        return subprocess.run(words, capture_output=True, text=True, timeout=60)

    run = RunFolder.open(settings(), tmp_path / "run")
    refused = second()
    assert refused.returncode == 6, refused.stderr
    holder = f"(pid {os.getpid()} on {socket.gethostname()} since 20"
    assert f"is in use by another twoviews process {holder}" in refused.stdout
    assert "--new" in refused.stdout
    run.release()
    assert not (tmp_path / "run/.lock-info.json").exists()
    assert second().returncode == 0
    # What a process that ended without letting go left there is of no weight: the lock is the system's.
    assert (tmp_path / "run/.lock-info.json").exists()
    assert second().returncode == 0


def test_the_command_line_exits_with_the_error_s_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from twoviews.stages import pretrain

    def work(given: Any) -> None:
        RunFolder.open(given, tmp_path / "run")

    monkeypatch.setattr(pretrain, "run_pretrain", work)
    held = RunFolder.open(PretrainCommand(), tmp_path / "run")
    assert cli.main(["pretrain"]) == 6
    error = capsys.readouterr().err
    assert error.startswith("twoviews: ")
    assert error.count("\n") == 1
    held.release()


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text("pretrain:\n  epochs: 5\n  epochs: 50\n")
    with pytest.raises(SettingsError, match=r"twice\.yaml is not YAML: line 3: the key epochs stands twice"):
        load_settings(path)
    path.write_text("- epochs\n")
    with pytest.raises(SettingsError, match="holds no settings"):
        load_settings(path)
    with pytest.raises(SettingsError, match=r"none\.yaml can't be read"):
        load_settings(tmp_path / "none.yaml")


@pytest.mark.parametrize("command", ["study", "pretrain"])
def test_saved_settings_start_the_same_run_again(command: str, tmp_path: Path) -> None:
    prefix = "--pretrain." if command == "study" else "--"
    words = ["sample", "--seed", "4", f"{prefix}epochs", "11", f"{prefix}crop-scale", "0.3", "0.9", "--keep-leaks"]
    name = cli.COMMANDS[command].settings
    first = parse(command, name, words)
    path = opened(first, tmp_path / "run")
    again = parse(command, name, ["--config", str(path / "settings.yaml")])
    assert again.model_copy(update={"config": None}) == first
    assert opened(again, tmp_path / "run") == path


def test_settings_are_saved_as_yaml_that_anyone_reads(tmp_path: Path) -> None:
    path = opened(settings(epochs=7, train=Path("some/where")), tmp_path / "run")
    saved = yaml.safe_load((path / "settings.yaml").read_text())
    assert saved["epochs"] == 7
    assert saved["train"] == "some/where"
    assert saved["crop_scale"] == [0.08, 1.0]
    assert saved.keys() == PretrainCommand.model_fields.keys()


def test_an_epoch_that_was_redone_counts_once(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for epoch, seconds in ((1, 2.0), (2, 3.0), (2, 5.0)):
        run.add_epoch({"epoch": epoch, "loss": 1.0}, {"seconds": seconds, "images_per_second": 100.0})
    with (tmp_path / "timing.jsonl").open("a") as file:
        file.write('{"epoch": 3, "sec')  # a crash while writing
    assert run.seconds() == 7.0


def test_only_the_first_process_writes(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run", writes=False)
    run.write_environment({})
    run.finish({"loss": 1.0})
    assert not (tmp_path / "run").exists()
    assert not run.finished
