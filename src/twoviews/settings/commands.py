"""The settings of each command: the groups it needs, put together; a study's hold one group for each stage."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from tyro.conf import Positional

from twoviews.settings.base import Device, Fraction, Numbers, Precision, Settings, Stem, compares, numbers_of
from twoviews.settings.groups import (
    DataSettings,
    FeatureSettings,
    FinetuneSettings,
    LabelSettings,
    MapSettings,
    ModelSettings,
    PretrainSettings,
    RunSettings,
    SupervisedSettings,
    TrainingSettings,
)


def _group(kind: type[Settings]) -> Any:
    """A field for a group of settings. Where it has no description the parser reads the source for one."""
    return Field(default_factory=kind, description=kind.__doc__)


class StudyCommand(MapSettings, RunSettings, ModelSettings, DataSettings):
    """The whole comparison: baseline, SimCLR, feature check, fine-tuning, test, report."""

    supervised: SupervisedSettings = _group(SupervisedSettings)
    pretrain: PretrainSettings = _group(PretrainSettings)
    features: FeatureSettings = _group(FeatureSettings)
    finetune: FinetuneSettings = _group(FinetuneSettings)
    with_imagenet: bool = Field(False, description="also fine-tune timm's ImageNet weights: the easy alternative")
    sgd_probe: bool = Field(False, description="also train a linear classifier on frozen features by SGD, with crops")
    seeds: int = Field(1, ge=1, le=100, description="repetitions: seed, seed + 1, ...; several show training's chance")
    pretrain_seeds: bool = Field(False, description="pretrain for each seed anew; otherwise all share one pretraining")
    labels_per_class: Numbers = Field(None, description="also with so many labels of each class, as 10,30,100")
    label_fractions: Numbers = Field(None, description="also with these parts of the labels, as 0.01,0.1")
    folds: bool = Field(False, description="also on each official fold (stl10, cifar10_as_stl10)")
    jobs: int = Field(1, ge=1, le=256, description="parts to train at once, each with its share of processors or GPUs")
    tune: int = Field(0, ge=0, le=1000, description="recipes to try on validation, for baseline and fine-tuning alike")

    @compares
    def _evidence(self) -> None:
        if self.labels_per_class and self.label_fractions:
            raise ValueError(
                "--labels-per-class and --label-fractions both say how few labels to try: give one of them"
            )
        if self.pretrain_seeds and self.seeds == 1:
            raise ValueError("--pretrain-seeds pretrains once for each seed: say how many with --seeds, for example 3")
        if any(count % 1 != 0 or count < 2 for count in numbers_of(self.labels_per_class)):
            raise ValueError(
                f"--labels-per-class {self.labels_per_class}: each should be a whole number of at least 2, one label "
                "to train on and one to validate with"
            )
        if any(not 0 < fraction <= 1 for fraction in numbers_of(self.label_fractions)):
            raise ValueError(f"--label-fractions {self.label_fractions}: each should be above 0 and at most 1")
        if self.jobs > 1 and self.devices > 1:
            raise ValueError(
                f"--jobs {self.jobs} and --devices {self.devices}: several trainings at once, or several processes for "
                "each: give one of them"
            )
        if self.tune == 1:
            raise ValueError("--tune 1: the first trial is the recipe as it is; ask for at least 2")

    @compares
    def _stages(self) -> None:
        if self.fork:
            raise ValueError(
                "--fork: a study trains several models; fork one of them, for example `twoviews pretrain --fork --out "
                "output/study-sample/pretrain`"
            )
        if not self.features.maps and self.draws_more:
            raise ValueError(f"--features.no-maps and {self.draws_more}: there are no maps; give one of them")
        for name in ("supervised", "pretrain", "finetune"):
            _require_images_for_each(f"--{name}.batch-size", getattr(self, name).batch_size, self.devices)


def _require_images_for_each(name: str, batch_size: int, devices: int) -> None:
    if batch_size < 2 * devices:
        raise ValueError(f"{name} {batch_size}: {devices} devices need at least {2 * devices}, 2 images for each")


class TrainingCommand(RunSettings, ModelSettings, DataSettings):
    """A command that trains one model."""

    @compares
    def _beginning(self) -> None:
        assert isinstance(self, TrainingSettings)
        _require_images_for_each("--batch-size", self.batch_size, self.devices)
        if self.fork and self.init is not None:
            raise ValueError("--fork and --init both name the weights to begin from: give one of them")


class MeasuringCommand(RunSettings, ModelSettings, DataSettings):
    """A command that works on a trained model."""

    @compares
    def _nothing_to_fork(self) -> None:
        if self.fork:
            raise ValueError("--fork is for what trains: supervised, pretrain and finetune")


class SupervisedCommand(SupervisedSettings, LabelSettings, TrainingCommand):
    """The supervised baseline."""


class PretrainCommand(PretrainSettings, TrainingCommand):
    """SimCLR pretraining."""


# A command that starts from a run takes that run's data; a flag names others.
_DATA_OF_RUN = Field("sample", description="data set or folder; default: the run's")


class FinetuneCommand(FinetuneSettings, LabelSettings, TrainingCommand):
    """Fine-tuning from a pretraining run or a weights file."""

    data: str = _DATA_OF_RUN
    run: Positional[Path | None] = Field(None, description="pretraining run or weights file; default: the newest run")

    @compares
    def _one_origin(self) -> None:
        if self.run is not None and self.init is not None:
            raise ValueError(f"RUN ({self.run}) and --init ({self.init}) both name weights: give one of them")


class FeaturesCommand(FeatureSettings, LabelSettings, MeasuringCommand):
    """The feature quality check of a pretraining run."""

    data: str = _DATA_OF_RUN
    run: Positional[Path | None] = Field(None, description="pretraining run; default: the newest under output/")


class TestCommand(MapSettings, LabelSettings, MeasuringCommand):
    """Score a run's model on the test images."""

    data: str = _DATA_OF_RUN
    run: Positional[Path | None] = Field(None, description="classifier run or study; default: the newest under output/")
    maps: bool = Field(True, description="maps and pictures beside the scores; --no-maps is faster")

    @compares
    def _maps_to_draw(self) -> None:
        if not self.maps and self.draws_more:
            raise ValueError(f"--no-maps and {self.draws_more}: there are no maps; give one of them")


class CheckCommand(DataSettings):
    """Counts, sizes, unreadable files and copies, before any training."""

    seed: int = Field(0, ge=0, le=2**31 - 1, description="of the validation split")
    out: Path | None = Field(None, description="folder for check.json and lists as CSV; default: none written")


class ReportCommand(Settings):
    """The report of a study or of one stage; of several studies, one page that compares them."""

    runs: Positional[tuple[Path, ...]] = Field((), description="run folders; default: the newest study under output/")
    out: Path | None = Field(
        None, description="file to write; default: report.html in the run folder, of several comparison.html beside it"
    )


class PredictCommand(Settings):
    """Class and confidence of each image of a folder."""

    run: Positional[Path] = Field(description="study, classifier run, or features/ for the linear probe")
    folder: Positional[Path] = Field(description="images, any nesting")
    out: Path | None = Field(None, description="file to write; default: <run>/predictions-<folder>.csv")
    device: Device = Field("auto", description="where to compute")
    precision: Precision = Field("auto", description="as in training")
    cache: Path = Field(Path("data/cache"), description="where decoded images are kept")
    max_bad: Fraction = Field(1.0, description="share of unreadable files above which it is refused")


class ReplayCommand(Settings):
    """A training step whose numbers were not finite, once more, with a look at each layer."""

    run: Positional[Path | None] = Field(
        None, description="run or study; default: the newest that failed under output/"
    )
    device: Device | None = Field(None, description="where to compute; none: as the run")
    precision: Precision | None = Field(None, description="none: as the run")
    threads: int | None = Field(None, ge=1, description="CPU threads; none: as the run")


class ExportCommand(Settings):
    """Weights for others."""

    run: Positional[Path | None] = Field(None, description="run or study; default: the newest pretraining run")
    to: Literal["pth"] = Field("pth", description="pth: a plain PyTorch state dict with timm's key names")
    out: Path | None = Field(None, description="folder to write to; default: the run's models/")


class ExportMapCommand(Settings):
    """The map of the test images for another viewer."""

    run: Positional[Path | None] = Field(None, description="study or test run; default: the newest under output/")
    to: Literal["tensorboard", "parquet"] = Field(
        "tensorboard", description="tensorboard: its embedding projector; parquet: one table, as for Embedding Atlas"
    )
    out: Path | None = Field(None, description="new or empty folder to write to; default: map-<to> in the run folder")
    backbone: Literal["all", "random_init", "pretrained", "finetuned", "supervised", "imagenet_finetuned"] = Field(
        "all", description="whose features and maps"
    )
    features: bool = Field(False, description="parquet: the features too, as lists of fixed size")


with warnings.catch_warnings():
    # pydantic warns that the field hides its own json(), which is long deprecated.
    warnings.simplefilter("ignore", UserWarning)

    class BenchCommand(Settings):
        """How fast this machine is at SimCLR; nothing is left on the disk."""

        what: Positional[Literal["step", "augment", "loss", "data", "all"]] = Field(
            "all", description="step: pretraining with data and views; augment, loss, data: these alone"
        )
        backbone: str | None = Field(None, description="timm model name; default: resnet18, on a GPU resnet50")
        stem: Stem = Field("auto", description="as in training")
        image_size: int | None = Field(None, ge=8, le=1024, description="pixels; default: 64, on a GPU 96")
        view_size: int | None = Field(None, ge=8, description="height and width of views; none: the image size")
        batch_size: int | None = Field(None, ge=2, description="images a step; default: as in pretraining")
        steps: int = Field(3, ge=1, description="steps a round, more where they are short; three rounds are timed")
        unlabeled: Path | None = Field(None, description="folder of images, any nesting; default: random images")
        device: Device = Field("auto", description="where to compute")
        precision: Precision = Field("auto", description="as in training")
        threads: int | None = Field(None, ge=1, description="CPU threads; default: all cores")
        cuda_graphs: bool = Field(True, description="as in training")
        torch_compile: bool = Field(False, description="as in training")
        json: bool = Field(False, description="one JSON object a line, no tables")  # type: ignore[assignment]
