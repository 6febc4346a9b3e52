"""A recipe sweep of a small study: real trainings of a small net, stopped and gone on, chosen and recorded."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from timm.models import register_model
from timm.models.resnet import BasicBlock, ResNet

from twoviews import disk
from twoviews.dataset.images import ImageSet, Source
from twoviews.dataset.splits import Splits, make_splits
from twoviews.errors import CheckpointError, DataError, NumbersError
from twoviews.settings import StudyCommand
from twoviews.stages import tune_trial
from twoviews.stages.backbones import new_backbone
from twoviews.stages.comparison import Comparison
from twoviews.stages.setup import Shared
from twoviews.stages.tune import Sweep, trial_epochs
from twoviews.stages.tune_choice import TrialScores
from twoviews.stages.tune_space import KINDS, recipes
from twoviews.stages.tune_trial import trainings_of
from twoviews.trainers.engine import Engine
from twoviews.trainers.weights import save_weights

CLASSES = ("a", "b", "c")
SMALL = {"epochs": 1, "batch_size": 8}


@register_model
def resnet10_w8(pretrained: bool = False, num_classes: int = 0, **_: Any) -> ResNet:
    """A net of four narrow blocks, made in a moment."""
    return ResNet(BasicBlock, (1, 1, 1, 1), num_classes=num_classes, channels=(8, 8, 8, 8))


def a_study(**changes: Any) -> StudyCommand:
    fixed: dict[str, Any] = {"backbone": "resnet10_w8", "image_size": 8, "precision": "float32", "threads": 1}
    fixed |= {"device": "cpu", "data": "toys", "tune": 2, "supervised": SMALL, "finetune": SMALL}
    return StudyCommand.model_validate({**fixed, **changes})


def a_split(train: int = 33) -> Splits:
    rng = np.random.default_rng(0)
    sets: dict[str, ImageSet] = {}
    for part, count in (("unlabeled", 12), ("train", train), ("test", 9)):
        labels = np.arange(count, dtype=np.int64) % 3
        pixels = (rng.integers(0, 90, (count, 3, 8, 8)) + 80 * labels[:, None, None, None]).astype(np.uint8)
        names = [f"{part}/{i}" for i in range(count)]
        sets[part] = ImageSet.whole(pixels, None if part == "unlabeled" else labels, names)
    return make_splits(Source(name="toys", class_names=CLASSES, **sets), seed=0)  # type: ignore[arg-type]


def a_comparison(folder: Path, settings: StudyCommand) -> Comparison:
    shared = Shared(Engine(settings), a_split(), data_written=True)
    pretrained = folder / "backbone.safetensors"
    about = {"model": settings.backbone, "stem": "small", "image_size": 8}
    save_weights(pretrained, dict(new_backbone(settings, 8, seed=3).state_dict()), about)
    return Comparison(folder, settings.seed, shared, pretrained)


@pytest.fixture(scope="module", autouse=True)
def only_what_is_trained() -> Any:
    """Pictures, the estimate of time and waiting for the disk take longer than to train these nets."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("write_figure", "classifier_curves", "confusion_matrix", "curve_data", "matrix_data"):
            patch.setattr(f"twoviews.stages.classify.{name}", lambda *_: None)
        patch.setattr("twoviews.stages.plan.seconds_per_epoch", lambda *_: 1.0)
        patch.setattr("twoviews.trainers.environment._version", lambda *_: "1")
        patch.setattr("os.fsync", lambda handle: None)
        yield


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """A comparison whose sweeps are both done."""
    settings = a_study()
    one = a_comparison(tmp_path_factory.mktemp("swept"), settings)
    sweep = Sweep(settings, one)
    sweep.tuned("finetune", sweep.tuned("supervised", settings))
    return one


def record(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "tune/results.json").read_text()))


def listing(folder: Path) -> dict[str, bytes]:
    """The files that a sweep leaves and that do not tell of time."""
    names = ("metrics.jsonl", "validation.csv", "settings.yaml")
    found = [path for path in sorted((folder / "tune").rglob("*")) if path.name in names]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found if path.name != "settings.yaml"}


def test_every_trial_of_both_kinds_is_recorded(swept: Comparison) -> None:
    found, settings = record(swept.folder), a_study()
    assert found["trials"] == 2
    assert found["trainings"] == 2
    assert found["scored_images"] == len(swept.shared.splits.train) == 30
    assert "McNemar" in found["rule"]
    for kind in ("supervised", "finetune"):
        side = found[kind]
        assert len(side["trials"]) == 2
        for number, (row, recipe) in enumerate(zip(side["trials"], recipes(kind, settings), strict=True)):
            assert row["settings"]["base_lr"] == recipe.base_lr
            assert row["epochs"] == recipe.epochs
            assert ("backbone_lr_scale" in row["settings"]) == (kind == "finetune")
            lines = [
                (swept.folder / f"tune/{kind}-{number}/fold-{i}/validation.csv").read_text().splitlines()[1:]
                for i in (0, 1)
            ]
            cells = [line.split(",") for part in lines for line in part]
            assert row["cv_top1"] == pytest.approx(np.mean([label == guess for _, label, guess, _ in cells]))
            assert row["cv_loss"] == pytest.approx(np.mean([float(loss) for *_, loss in cells]))
        assert side["chosen"] == side["trials"][side["chosen_trial"]]["settings"]
        assert side["because"].endswith(".")


def test_both_sweeps_see_as_many_images_as_the_record_says(swept: Comparison) -> None:
    seen = {"supervised": 0, "finetune": 0}
    for path in (swept.folder / "tune").rglob("metrics.jsonl"):
        kind = path.relative_to(swept.folder / "tune").parts[0].rsplit("-", 1)[0]
        seen[kind] += len(path.read_text().splitlines()) * 15  # epochs of half of the images
    assert seen["supervised"] == seen["finetune"] == record(swept.folder)["budget_images"]
    for kind in KINDS:
        assert trial_epochs(a_study(), swept.shared)[kind] == seen[kind] / 30
        assert trial_epochs(a_study(tune=0), swept.shared)[kind] == 0


def test_each_half_is_scored_by_the_training_that_did_not_see_it(swept: Comparison) -> None:
    splits = swept.shared.splits
    trainings = trainings_of(swept.shared, seed=0)
    for training in trainings:
        mine, other = training.shared.splits.train, training.held_out
        assert sorted([*mine.rows, *other.rows]) == sorted(splits.train.rows)
        assert mine.labels is not None
        assert np.ptp(np.bincount(mine.labels)) <= 1
        assert training.shared.splits.val is splits.val  # takes no part in the choice
        assert training.share == 0.5
        written = (swept.folder / f"tune/supervised-0/{training.name}/validation.csv").read_text()
        assert [line.split(",")[0] for line in written.splitlines()[1:]] == [other.name(i) for i in range(len(other))]
    assert [r.tolist() for r in (trainings[0].held_out.rows, trainings[1].held_out.rows)] == [
        r.tolist() for r in (trainings[1].shared.splits.train.rows, trainings[0].shared.splits.train.rows)
    ]
    assert trainings_of(swept.shared, seed=1)[0].held_out.rows.tolist() != trainings[0].held_out.rows.tolist()


def test_a_trial_has_no_test_images(swept: Comparison) -> None:
    for training in trainings_of(swept.shared, seed=0):
        assert training.shared.splits.test_images is None
        with pytest.raises(DataError, match="no test part"):
            training.shared.splits.open_test()
    assert swept.shared.splits.test_images is not None


def test_of_a_trial_stays_what_was_found_and_not_its_weights(swept: Comparison) -> None:
    runs = sorted(path.parent for path in (swept.folder / "tune").rglob("validation.csv"))
    assert len(runs) == 8
    for run in runs:
        assert not (run / "checkpoints").exists()
        assert not (run / "models").exists()
        assert {"settings.yaml", "metrics.jsonl", "results.json", "environment.json"} <= {p.name for p in run.iterdir()}


def test_done_it_is_read_and_not_run_again(swept: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError("a finished sweep trains")

    monkeypatch.setattr("twoviews.stages.tune.run_trial", never)
    settings = a_study()
    before = (swept.folder / "tune/results.json").read_bytes()
    sweep = Sweep(settings, swept)
    plan = sweep.tuned("finetune", sweep.tuned("supervised", settings))
    assert (swept.folder / "tune/results.json").read_bytes() == before
    found = record(swept.folder)
    assert sweep.results() == found
    assert plan.supervised == recipes("supervised", settings)[found["supervised"]["chosen_trial"]]
    assert plan.finetune == recipes("finetune", settings)[found["finetune"]["chosen_trial"]]
    assert plan.pretrain == settings.pretrain


def interrupted_at(call: str, name: str, number: int) -> Callable[[str, Path], None]:
    """Something for ``disk.before`` that stops the program at the n-th such call."""
    seen = 0

    def before(made: str, path: Path) -> None:
        nonlocal seen
        seen += made == call and path.name == name
        if seen == number:
            raise KeyboardInterrupt

    return before


def test_stopped_anywhere_it_goes_on_bit_for_bit(
    swept: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = a_study()
    one = a_comparison(tmp_path, settings)
    # In the middle of a training, before a trial's score is written, between that and the deletion of its weights,
    # and at the very end.
    for call, name, number in (
        ("append", "metrics.jsonl", 2),
        ("rename", "validation.csv", 1),
        ("remove", "models", 3),
        ("remove", "checkpoints", 4),
        ("rename", "results.json", 1),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(disk, "before", interrupted_at(call, name, number))
            with pytest.raises(KeyboardInterrupt):
                Sweep(settings, one).tuned("supervised", settings)
    Sweep(settings, one).tuned("supervised", settings)
    ours, theirs = record(tmp_path), record(swept.folder)
    assert ours == {key: value for key, value in theirs.items() if key != "finetune"}
    assert listing(tmp_path) == {k: v for k, v in listing(swept.folder).items() if "/supervised-" in k}
    assert not list((tmp_path / "tune").rglob("*.safetensors"))


def test_what_a_sweep_chose_does_not_change_what_the_other_tries(
    swept: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = a_study(tune=3, supervised={**SMALL, "epochs": 3})
    tried: list[int] = []

    def scored(kind: str, number: int, recipe: Any, *_: Any) -> TrialScores:
        tried.append(recipe.epochs)
        correct = np.arange(900) < 300 + 200 * (number == 2)
        return TrialScores(correct, np.ones(900))

    monkeypatch.setattr("twoviews.stages.tune.run_trial", scored)
    monkeypatch.setattr("twoviews.stages.tune.write_json", lambda *_: None)
    sweep = Sweep(settings, replace(swept, folder=swept.folder / "elsewhere"))
    plan = sweep.tuned("supervised", settings)
    assert plan.supervised == recipes("supervised", settings)[2]
    plan = sweep.tuned("finetune", plan)
    assert tried == [r.epochs for kind in ("supervised", "finetune") for r in recipes(kind, settings)]  # type: ignore[arg-type]
    assert sum(tried[:3]) == sum(tried[3:])
    assert plan.supervised == recipes("supervised", settings)[2]


def test_trials_that_were_run_elsewhere_are_read_as_if_run_here(
    swept: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = a_study()
    assert Sweep(settings, swept).trials("supervised") == []
    sweep = Sweep(settings, a_comparison(tmp_path, settings))
    trials = sweep.trials("supervised")
    assert [part.stages for part in trials] == [("tune/supervised-0",), ("tune/supervised-1",)]
    assert sum(part.passes["supervised"] for part in trials) == trial_epochs(settings, swept.shared)["supervised"]
    assert trials[1].place(tmp_path) == "tune/supervised-1: "
    for part in reversed(trials):
        sweep.run_one(*part.stages)
    monkeypatch.setattr("twoviews.stages.tune.run_trial", None)
    plan = sweep.tuned("supervised", settings, were_run=True)
    found = record(swept.folder)
    assert plan.supervised == recipes("supervised", settings)[found["supervised"]["chosen_trial"]]
    assert record(tmp_path) == {key: value for key, value in found.items() if key != "finetune"}


def test_the_recipe_is_the_first_trial_at_once_and_the_longest_the_next(swept: Comparison, tmp_path: Path) -> None:
    settings = a_study(tune=6, supervised={**SMALL, "epochs": 9})
    tried = recipes("supervised", settings)
    trials = Sweep(settings, replace(swept, folder=tmp_path)).trials("supervised")
    order = [int(part.stages[0].rpartition("-")[2]) for part in trials]
    assert sorted(order) == list(range(6))
    epochs = [tried[number].epochs for number in order]
    assert order[0] == 0
    assert epochs[1:] == sorted(epochs[1:], reverse=True)


def test_a_trial_that_failed_elsewhere_is_out_here_too(swept: Comparison, tmp_path: Path) -> None:
    (tmp_path / "tune/supervised-1/fold-0").mkdir(parents=True)
    (tmp_path / "tune/supervised-1/fold-0/failure.json").write_text("{}")
    one = replace(swept, folder=tmp_path)
    assert tune_trial.trial_scores("supervised", 1, trainings_of(swept.shared, seed=0), one) is None


def test_with_enough_validation_images_each_trial_is_trained_once_on_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune_trial, "SELECT_FROM", 3)
    settings = a_study(tune=2, supervised={**SMALL, "epochs": 2})
    one = a_comparison(tmp_path, settings)
    Sweep(settings, one).tuned("supervised", settings)
    found = record(tmp_path)
    assert found["trainings"] == 1
    assert found["scored_images"] == len(one.shared.splits.val)
    assert found["budget_images"] == 30 * (2 + 1)  # epochs of the recipe, and of fine-tuning's
    for number, row in enumerate(found["supervised"]["trials"]):
        run = json.loads((tmp_path / f"tune/supervised-{number}/results.json").read_text())
        assert row["val_top1"] == run["val_top1"]
        assert row["val_loss"] == pytest.approx(run["val_loss"], rel=1e-5)


def test_a_trial_that_diverges_is_out_and_the_recipe_that_does_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = a_study()
    one = a_comparison(tmp_path, settings)
    fine, absurd = settings.supervised, settings.supervised.model_copy(update={"base_lr": 1e30, "epochs": 8})
    monkeypatch.setattr("twoviews.stages.tune.recipes", lambda kind, _: [fine, absurd])
    assert Sweep(settings, one).tuned("supervised", settings).supervised == fine
    row = record(tmp_path)["supervised"]["trials"][1]
    assert row["failed"]
    assert row["cv_top1"] is None
    assert row["p"] is None
    assert "its loss was not finite" in capsys.readouterr().out
    assert (tmp_path / "tune/supervised-1/fold-0/failure.json").exists()
    # At another start it is known to have failed.
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "tune/supervised-1").rglob("*")}
    (tmp_path / "tune/results.json").unlink()
    Sweep(settings, one).tuned("supervised", settings)
    assert record(tmp_path)["supervised"]["trials"][1] == row
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "tune/supervised-1").rglob("*")}
    monkeypatch.setattr("twoviews.stages.tune.recipes", lambda kind, _: [absurd, fine])
    with pytest.raises(NumbersError, match=r"recipe of the fine-tuning itself fails .*--finetune.base-lr \(1e\+30\)"):
        Sweep(settings, one).tuned("finetune", settings)


def test_a_damaged_score_says_how_to_go_on(swept: Comparison) -> None:
    training = trainings_of(swept.shared, seed=0)[0]
    path = swept.folder / "tune/finetune-1/fold-0/validation.csv"
    whole = path.read_bytes()
    try:
        for damaged in (whole[:40], whole.replace(b",", b";"), whole + whole.splitlines(keepends=True)[1]):
            path.write_bytes(damaged)
            with pytest.raises(CheckpointError, match=r"delete .*fold-0, and the same command"):
                tune_trial._scores(path.parent, training)
    finally:
        path.write_bytes(whole)


def test_without_tune_nothing_happens(tmp_path: Path, swept: Comparison) -> None:
    settings = a_study(tune=0)
    sweep = Sweep(settings, replace(swept, folder=tmp_path))
    assert sweep.tuned("supervised", settings) is settings
    assert sweep.results() is None
    assert list(tmp_path.iterdir()) == []
