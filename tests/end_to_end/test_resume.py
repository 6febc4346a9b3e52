"""What may go on and what may not: the real commands, in this process, on a few pictures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from real_commands import write_photos
from safetensors.numpy import load_file

from twoviews import cli

SETTINGS = ["--backbone", "resnet18_w16", "--image-size", "16", "--precision", "float32", "--batch-size", "8"]
SETTINGS += ["--device", "cpu", "--cache", "cache"]
RUN = Path("output/pretrain-photos")


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with pictures and a finished pretraining run."""
    work = tmp_path_factory.mktemp("resume")
    write_photos(work / "photos", train=4, test=2, unlabeled=24)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(work)
        assert cli.main(pretrain()) == 0
    return work


@pytest.fixture
def work(pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, in which a test may do what it likes."""
    copy = tmp_path / "work"
    shutil.copytree(pretrained, copy)
    monkeypatch.chdir(copy)
    return copy


def pretrain(*more: str, data: str = "photos", epochs: int = 1, threads: int = 1) -> list[str]:
    return ["pretrain", data, *SETTINGS, "--epochs", str(epochs), "--threads", str(threads), *more]


def unfinished() -> None:
    """As if the run had been killed while it wrote its results."""
    (RUN / "results.json").unlink()


def environment(run: Path = RUN) -> dict[str, Any]:
    return dict(json.loads((run / "environment.json").read_text()))


Said = pytest.CaptureFixture[str]


def test_a_finished_run_is_complete_and_left_alone(work: Path, capsys: Said) -> None:
    before = {p: p.stat().st_mtime_ns for p in RUN.rglob("*")}
    assert cli.main(pretrain(threads=2)) == 0
    assert "pretrain: already complete in output/pretrain-photos" in capsys.readouterr().out
    before.pop(RUN / "checkpoints", None)
    assert before == {p: p.stat().st_mtime_ns for p in before}
    assert "resumes" not in environment()
    assert len(environment()["run_id"]) == 32


def test_results_that_are_damaged_do_not_count_as_finished(work: Path, capsys: Said) -> None:
    for content in (b"", b'{"loss": 1.', b"[]", b"{}", b"\xff"):
        (RUN / "results.json").write_bytes(content)
        assert cli.main(pretrain()) == 4
        error = capsys.readouterr().err
        assert "results.json can't be read" in error
        assert "delete it" in error
    unfinished()  # as it says
    assert cli.main(pretrain()) == 0
    assert json.loads((RUN / "results.json").read_text())["epochs"] == 1


def test_other_images_are_refused_with_their_names(work: Path, capsys: Said) -> None:
    deep = work / "photos/unlabeled/deep"
    shutil.copy(deep / "000.jpg", deep / "new.jpg")
    (deep / "001.jpg").rename(work / "kept.jpg")
    content = (deep / "002.jpg").read_bytes()
    shutil.copy(deep / "003.jpg", deep / "002.jpg")
    for _ in range(2):  # a finished run is no answer to a question about other images either
        assert cli.main(pretrain()) == 4
        error = capsys.readouterr().err
        assert "1 added (unlabeled/deep/new.jpg)" in error
        assert "1 removed (unlabeled/deep/001.jpg)" in error
        assert "1 with other pixels or another label (unlabeled/deep/002.jpg)" in error
        assert error.count("\n") == 1
        (RUN / "results.json").unlink(missing_ok=True)
    (deep / "new.jpg").unlink()
    (work / "kept.jpg").rename(deep / "001.jpg")
    (deep / "002.jpg").write_bytes(content)
    assert cli.main(pretrain()) == 0


def test_a_picture_under_another_label_is_another_picture(work: Path, capsys: Said) -> None:
    train = work / "photos/train"
    first, second = sorted(folder for folder in train.iterdir())[:2]
    names = [first / "001.png", second / "001.png"]
    contents = [name.read_bytes() for name in names]
    for name, content in zip(names, reversed(contents), strict=True):
        name.write_bytes(content)
    assert cli.main(pretrain()) == 4
    assert "2 with other pixels or another label (train/" in capsys.readouterr().err


def test_a_folder_that_was_moved_holds_the_same_images(work: Path, capsys: Said) -> None:
    (work / "photos").rename(work / "elsewhere")
    unfinished()
    assert cli.main(pretrain("--out", str(RUN), data="elsewhere")) == 0
    # And a run folder that was moved is the same run.
    RUN.rename(work / "archived")
    assert cli.main(pretrain("--out", "archived", data=str(work / "elsewhere"))) == 0
    assert "already complete in archived" in capsys.readouterr().out
    write_photos(work / "others", train=4, test=2, unlabeled=25)
    assert cli.main(pretrain("--out", "archived", data="others")) == 2
    assert "(data: photos there, others now)" in capsys.readouterr().err


def test_a_damaged_record_is_named(work: Path, capsys: Said) -> None:
    for name in ("data-index.json.gz", "environment.json", "settings.yaml"):
        file = RUN / name
        whole = file.read_bytes()
        half = len(whole) // 2
        # Of the settings one line is left: that is YAML, and other settings.
        file.write_bytes(whole[: whole.index(b"\n") + 1 if name == "settings.yaml" else half])
        assert cli.main(pretrain()) == (2 if name == "settings.yaml" else 4)
        error = capsys.readouterr().err
        assert "other settings" in error if name == "settings.yaml" else f"{name} can't be read" in error
        file.write_bytes(whole)
    assert cli.main(pretrain()) == 0


def test_a_start_elsewhere_warns_and_is_recorded(work: Path, capsys: Said) -> None:
    unfinished()
    record = environment()
    record["machine"]["cpu"] = "another processor"
    record["torch"] = "2.0.0"
    (RUN / "environment.json").write_text(json.dumps(record))
    assert cli.main(pretrain(threads=2)) == 0
    warnings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1
    assert "output/pretrain-photos goes on with " in warnings[0]
    for change in ("threads 2 instead of 1", " instead of another processor", " instead of 2.0.0", "its last bits"):
        assert change in warnings[0]
    now = environment()
    assert {key: now[key] for key in record} == record
    (resume,) = now["resumes"]
    assert resume["machine"]["threads"] == 2
    assert resume["started"] >= record["started"]

    unfinished()
    record = {**environment(), **{key: resume[key] for key in ("machine", "torch")}}
    (RUN / "environment.json").write_text(json.dumps(record))
    assert cli.main(pretrain(threads=2)) == 0
    assert "warning: output" not in capsys.readouterr().out  # all as at the first start
    assert len(environment()["resumes"]) == 2


def test_another_precision_is_refused_however_it_came_about(work: Path, capsys: Said) -> None:
    unfinished()
    record = environment()
    record["machine"]["precision"] = "bf16"
    (RUN / "environment.json").write_text(json.dumps(record))
    assert cli.main(pretrain()) == 2
    error = capsys.readouterr().err
    assert "began in bf16, and here it would go on in float32" in error
    assert "--precision bf16" in error
    # What ``auto`` came to may be named.
    record["machine"]["precision"] = "float32"
    (RUN / "environment.json").write_text(json.dumps(record))
    settings = RUN / "settings.yaml"
    settings.write_text(settings.read_text().replace("precision: float32", "precision: auto"))
    assert cli.main(pretrain()) == 0


def test_other_settings_are_refused_and_the_ways_on_are_named(work: Path, capsys: Said) -> None:
    assert cli.main(pretrain(epochs=2)) == 2
    error = capsys.readouterr().err
    assert "(epochs: 1 there, 2 now)" in error
    assert "--new" in error
    assert "--fork" in error


def test_a_fork_begins_from_the_weights_of_the_run(work: Path, capsys: Said) -> None:
    assert cli.main(pretrain("--fork", "--base-lr", "0.01", epochs=2)) == 0
    forked = RUN.with_name("pretrain-photos-2")
    assert (
        "from the weights of output/pretrain-photos at step 3; optimizer and steps begin anew"
        in capsys.readouterr().out
    )
    source = load_file(RUN / "checkpoints/step-00000003/model.safetensors")
    start = load_file(forked / "models/start.safetensors")
    assert start.keys() == source.keys()
    assert all(np.array_equal(start[key], source[key]) for key in start)
    origin = environment(forked)["forked_from"]
    assert origin == {"path": "output/pretrain-photos", "step": 3, "run_id": environment()["run_id"]}
    assert environment(forked)["run_id"] != environment()["run_id"]
    rows = [json.loads(line) for line in (forked / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [3, 6]

    # It goes on as a run of its own: from its own copy of the weights while it has no checkpoint.
    expected = {p.name: load_file(p) for p in (forked / "models").iterdir()}
    for gone in ("results.json", "metrics.jsonl", "timing.jsonl"):
        (forked / gone).unlink()
    shutil.rmtree(forked / "checkpoints")
    shutil.rmtree(RUN)
    assert cli.main(pretrain("--out", str(forked), "--base-lr", "0.01", epochs=2)) == 0
    for name, tensors in expected.items():
        again = load_file(forked / "models" / name)
        assert all(np.array_equal(again[key], tensors[key]) for key in tensors), name
    assert environment(forked)["forked_from"] == origin


@pytest.mark.slow
def test_a_fork_of_a_finished_model_without_checkpoints(work: Path, capsys: Said) -> None:
    step = load_file(RUN / "checkpoints/step-00000003/model.safetensors")
    shutil.rmtree(RUN / "checkpoints")
    assert cli.main(pretrain("--fork", "--epochs", "1", "--seed", "3")) == 0
    start = load_file(RUN.with_name("pretrain-photos-2") / "models/start.safetensors")
    assert start.keys() == step.keys()
    assert all(np.array_equal(start[key], step[key]) for key in start)


def test_a_fork_of_another_architecture_is_refused_with_counts(work: Path, capsys: Said) -> None:
    assert cli.main(pretrain("--fork", "--backbone", "resnet18_w32")) == 4
    error = capsys.readouterr().err
    assert "--fork: " in error
    assert " tensors fit the " in error
    assert cli.main(pretrain("--fork", "--projection-width", "64")) == 4
    assert "of the model's" in capsys.readouterr().err
    assert [p.name for p in Path("output").iterdir()] == ["pretrain-photos"]


def test_a_fork_of_damaged_checkpoints_is_refused(work: Path, capsys: Said) -> None:
    for file in (RUN / "checkpoints").rglob("model.safetensors"):
        file.write_bytes(file.read_bytes()[:-1])
    assert cli.main(pretrain("--fork")) == 4
    assert "is whole" in capsys.readouterr().err
    assert [p.name for p in Path("output").iterdir()] == ["pretrain-photos"]


def test_a_start_that_failed_does_not_stand_in_the_way_of_the_corrected_one(work: Path, capsys: Said) -> None:
    (work / "broken.pth").write_bytes(b"no weights")
    other = ["--out", "other"]
    assert cli.main(pretrain("--init", "broken.pth", *other)) == 4
    assert "broken.pth" in capsys.readouterr().err
    assert not (work / "other").exists()
    assert cli.main(pretrain(*other)) == 0
    # What was computed is never taken away.
    unfinished()
    for file in (RUN / "checkpoints").rglob("model.safetensors"):
        file.write_bytes(file.read_bytes()[:-1])
    assert cli.main(pretrain()) == 4
    assert (RUN / "metrics.jsonl").exists()
    (work / "mine").mkdir()
    assert cli.main(pretrain("--init", "broken.pth", "--out", "mine")) == 4
    assert (work / "mine").is_dir()


def test_a_command_on_the_newest_run_records_which_it_was(work: Path, capsys: Said) -> None:
    assert cli.main(["features", *SETTINGS[4:6], "--threads", "1"]) == 0
    assert "run: output/pretrain-photos\n" in Path("output/features-photos/settings.yaml").read_text()
    assert cli.main(pretrain("--new")) == 0
    assert cli.main(["features", *SETTINGS[4:6], "--threads", "1"]) == 2  # not the old answer about a new run
    error = capsys.readouterr().err
    assert "run: output/pretrain-photos there, output/pretrain-photos-2 now" in error
