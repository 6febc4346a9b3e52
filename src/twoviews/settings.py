"""Settings of every stage and command: the one place for each default, its range and its help text.

A command's settings are the groups it needs, put together; a study's hold one group for each stage. Where a value
depends on the data set, the default here is the one for STL10 and ``recipes.py`` says the others.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from tyro.conf import Positional

Fraction = Annotated[float, Field(ge=0, le=1)]
Range = tuple[float, float]


_all_known: ContextVar[bool] = ContextVar("whether settings are compared with each other", default=True)


@contextmanager
def some_unknown() -> Iterator[None]:
    """Within this block settings are not compared with each other: some are not those that will be used."""
    token = _all_known.set(False)
    try:
        yield
    finally:
        _all_known.reset(token)


def _compares(check: Callable[[Any], None]) -> Any:
    """A check of settings against each other, which raises ValueError."""

    def validate(settings: Any) -> Any:
        if _all_known.get():
            check(settings)
        return settings

    return model_validator(mode="after")(validate)


class Settings(BaseModel):
    """Unknown keys are errors; values can't change after they were checked."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch_for_a_value(cls, value: Any, info: ValidationInfo) -> Any:
        # YAML's yes, no, on and off are switches; Python would take them for 1 and 0.
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation not in (bool, bool | None):
            raise ValueError("should be a value, not a switch")
        return value


class DataSettings(Settings):
    """Where the images come from."""

    data: Positional[str] = Field(
        "sample",
        description="sample, stl10, cifar10, or a folder with unlabeled/, train/<class>/, test/<class>/",
    )
    unlabeled: Path | None = Field(None, description="folder of images for pretraining, any nesting")
    train: Path | None = Field(None, description="folder train/<class>/ of labelled images")
    val: Path | None = Field(None, description="folder val/<class>/; without it a part of train is held out")
    test: Path | None = Field(None, description="folder test/<class>/ of labelled images")
    image_size: int = Field(96, ge=8, le=1024, description="height and width in pixels of a folder's images")
    val_fraction: float = Field(0.1, gt=0, lt=1, description="part of train held out for validation")
    keep_leaks: bool = Field(False, description="keep training images that are copies of test images")
    drop_near: bool = Field(False, description="also leave out near copies of test images: encoded anew, turned, ...")
    data_root: Path = Field(Path("data"), description="where stl10 and cifar10 lie or are downloaded to")
    cache: Path = Field(Path("data/cache"), description="where decoded images of a folder are kept")
    max_bad: Fraction = Field(0.05, description="share of unreadable files above which a run is refused")
    max_pixels: int = Field(128_000_000, ge=1, description="pixels above which a file is left out undecoded")
    follow_links: bool = Field(False, description="follow links that lead out of the data folder")

    @_compares
    def _copies(self) -> None:
        if self.keep_leaks and self.drop_near:
            raise ValueError("--keep-leaks keeps every copy and --drop-near takes near ones out: give one of them")


class ModelSettings(Settings):
    """The backbone, the same in every stage."""

    backbone: str = Field("resnet50", description="timm model name, or resnet18_w16 / resnet18_w32")
    stem: Literal["auto", "small", "small-pool", "original"] = Field(
        "auto", description="first layer; auto: small up to 40 pixels, else original"
    )
    init: str | None = Field(None, description="weights file to start from, or timm for its pretrained weights")


class RunSettings(Settings):
    """Where and how a command runs."""

    out: Path | None = Field(None, description="run folder; default output/<command>-<data>")
    new: bool = Field(False, description="start a new run beside an existing one (-2, -3, ...)")
    fork: bool = Field(
        False, description="start a new run beside an existing one from its weights, with these settings, at step 0"
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="everything random follows from it")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="where to compute")
    precision: Literal["auto", "float32", "bf16", "fp16"] = Field(
        "auto", description="auto: bf16 where the processor has it and it pays, else float32"
    )
    devices: int = Field(1, ge=1, description="processes (GPUs) on this machine")
    threads: int | None = Field(None, ge=1, description="CPU threads; default: all cores")
    recipe: str | None = Field(None, description="named settings; default: by DATA")
    config: Path | None = Field(None, description="YAML file of settings; flags win over it")
    minutes: float | None = Field(None, gt=0, description="lower the epochs until the run fits this time")

    @_compares
    def _one_way_to_begin(self) -> None:
        if self.new and self.fork:
            raise ValueError("--new begins from nothing and --fork from a run's weights: give one of them")
        if self.device == "mps" and self.devices > 1:
            raise ValueError(f"--devices {self.devices}: there is one GPU behind mps; leave it out")


class TrainingSettings(Settings):
    """What every training stage has."""

    epochs: int = Field(60, ge=1, le=100_000, description="passes over the training images")
    batch_size: int = Field(256, ge=2, description="images a step, over all processes")
    optimizer: Literal["sgd", "adamw", "lars"] = Field("sgd", description="sgd is with Nesterov momentum")
    base_lr: float = Field(0.1, gt=0, description="learning rate per 256 images")
    lr_scaling: Literal["linear", "sqrt", "none"] = Field(
        "linear", description="lr = base_lr x batch/256, x sqrt(batch/256), or base_lr"
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of sgd and lars")
    weight_decay: float = Field(5e-4, ge=0, description="not applied to biases and BatchNorm")
    warmup_epochs: float = Field(0.0, ge=0, description="epochs of linear warm-up before the cosine; at most half")
    clip_grad_norm: float | None = Field(None, gt=0, description="largest gradient norm; none: no clipping")
    view_size: int | None = Field(None, ge=8, description="height and width of views; none: the image size")
    first_view_size: int | None = Field(
        None, ge=8, description="size of views in the first epoch; they grow to view_size by the last"
    )
    crop_scale: Range = Field((0.08, 1.0), description="range of a crop's share of the image's area")
    jitter: Fraction = Field(0.8, description="probability of colour jitter")
    jitter_strength: float = Field(1.0, ge=0, le=2, description="s: brightness, contrast, saturation 0.8s, hue 0.2s")
    grayscale: Fraction = Field(0.2, description="probability of dropping colour")
    blur: Fraction = Field(0.5, description="probability of Gaussian blur")
    blur_sigma: Range = Field((0.1, 2.0), description="range of the blur's sigma in pixels")
    checkpoint_minutes: float = Field(10.0, gt=0, description="also save within long epochs, this often")

    @_compares
    def _ranges(self) -> None:
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise ValueError(f"crop_scale must rise within (0, 1], got {low} {high}")
        if not 0 <= self.blur_sigma[0] <= self.blur_sigma[1]:
            raise ValueError(f"blur_sigma must rise from 0 or more, got {self.blur_sigma[0]} {self.blur_sigma[1]}")
        if self.first_view_size and self.view_size and self.first_view_size > self.view_size:
            raise ValueError(
                f"first_view_size {self.first_view_size} is above the view_size {self.view_size} that views grow to"
            )


class ClassifierSettings(TrainingSettings):
    """What the baseline and fine-tuning share: the lighter augmentation."""

    batch_size: int = Field(64, ge=2, description="images a step, over all processes")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of the target spread over all classes")
    crop_scale: Range = Field((0.4, 1.0), description="range of a crop's share of the image's area")
    jitter: Fraction = Field(0.0, description="probability of colour jitter")
    jitter_strength: float = Field(0.5, ge=0, le=2, description="s: brightness, contrast, saturation 0.8s, hue 0.2s")
    grayscale: Fraction = Field(0.0, description="probability of dropping colour")
    blur: Fraction = Field(0.0, description="probability of Gaussian blur")


class SupervisedSettings(ClassifierSettings):
    """The baseline: the same backbone from random weights, on the labelled images alone."""

    base_lr: float = Field(0.2, gt=0, description="learning rate per 256 images")


class PretrainSettings(TrainingSettings):
    """SimCLR on the unlabeled images."""

    epochs: int = Field(100, ge=1, le=100_000, description="passes over the unlabeled images")
    base_lr: float = Field(0.6, gt=0, description="learning rate per 256 images")
    weight_decay: float = Field(1e-4, ge=0, description="not applied to biases and BatchNorm")
    warmup_epochs: float = Field(10.0, ge=0, description="epochs of linear warm-up before the cosine; at most half")
    temperature: float = Field(0.2, gt=0, le=100, description="temperature of InfoNCE")
    projection_layers: Literal[2, 3] = Field(2, description="linear layers of the projection head")
    projection_hidden: int | None = Field(None, ge=1, description="its hidden width; none: as the features")
    projection_width: int = Field(128, ge=2, description="its output width")
    jitter_strength: float = Field(0.5, ge=0, le=2, description="s: brightness, contrast, saturation 0.8s, hue 0.2s")
    chunk_size: int | None = Field(
        None, ge=2, description="images at a time: the whole batch's exact gradient with a chunk's memory"
    )
    monitor_epochs: int = Field(5, ge=1, description="epochs between two looks at the features")

    @_compares
    def _chunks(self) -> None:
        if self.chunk_size is not None and self.chunk_size > self.batch_size:
            raise ValueError(f"chunk_size {self.chunk_size} is above the batch_size {self.batch_size}; leave it out")


class FinetuneSettings(ClassifierSettings):
    """From pretrained weights to a classifier."""

    base_lr: float = Field(0.2, gt=0, description="learning rate of the head per 256 images")
    backbone_lr_scale: float = Field(0.5, ge=0, le=1, description="the backbone's learning rate over the head's")
    freeze_backbone: bool = Field(False, description="train the head alone, BatchNorm in eval mode")
    probe_start: bool = Field(False, description="start the head as the linear probe that features/ chose")


class FeatureSettings(Settings):
    """The feature quality check."""

    perplexity: float = Field(30.0, gt=1, description="of t-SNE; lowered where there are few images")
    clusters: int | None = Field(None, ge=2, description="k of k-means; none: the number of classes")
    max_images: int = Field(20_000, ge=100, description="images drawn in maps; more are sampled evenly")


class StudyCommand(RunSettings, ModelSettings, DataSettings):
    """The whole comparison: baseline, SimCLR, feature check, fine-tuning, test, report."""

    supervised: SupervisedSettings = Field(default_factory=SupervisedSettings)
    pretrain: PretrainSettings = Field(default_factory=PretrainSettings)
    features: FeatureSettings = Field(default_factory=FeatureSettings)
    finetune: FinetuneSettings = Field(default_factory=FinetuneSettings)
    with_imagenet: bool = Field(False, description="also fine-tune timm's ImageNet weights: the easy alternative")

    @_compares
    def _stages(self) -> None:
        if self.fork:
            raise ValueError(
                "--fork: a study trains several models; fork one of them, for example `twoviews pretrain --fork --out "
                "output/study-sample/pretrain`"
            )
        if self.with_imagenet and self.finetune.probe_start:
            raise ValueError(
                "--with-imagenet and --finetune.probe-start: there is no probe of ImageNet's weights to start from; "
                "give one of them"
            )
        for name in ("supervised", "pretrain", "finetune"):
            _require_images_for_each(f"{name}.batch_size", getattr(self, name).batch_size, self.devices)


def _require_images_for_each(name: str, batch_size: int, devices: int) -> None:
    if batch_size < 2 * devices:
        raise ValueError(f"{name} {batch_size}: {devices} devices need at least {2 * devices}, 2 images for each")


class TrainingCommand(RunSettings, ModelSettings, DataSettings):
    """A command that trains one model."""

    @_compares
    def _beginning(self) -> None:
        assert isinstance(self, TrainingSettings)
        _require_images_for_each("batch_size", self.batch_size, self.devices)
        if self.fork and self.init is not None:
            raise ValueError("--fork and --init both name the weights to begin from: give one of them")


class MeasuringCommand(RunSettings, ModelSettings, DataSettings):
    """A command that works on a trained model."""

    @_compares
    def _nothing_to_fork(self) -> None:
        if self.fork:
            raise ValueError("--fork is for what trains: supervised, pretrain and finetune")


class SupervisedCommand(SupervisedSettings, TrainingCommand):
    """The supervised baseline."""


class PretrainCommand(PretrainSettings, TrainingCommand):
    """SimCLR pretraining."""


# A command that starts from a run takes that run's data; a flag names others.
_DATA_OF_RUN = Field("sample", description="data set or folder; default: the run's")


class FinetuneCommand(FinetuneSettings, TrainingCommand):
    """Fine-tuning from a pretraining run or a weights file."""

    data: str = _DATA_OF_RUN
    run: Positional[Path | None] = Field(None, description="pretraining run or weights file; default: the newest run")

    @_compares
    def _one_origin(self) -> None:
        if self.run is not None and self.init is not None:
            raise ValueError(f"RUN ({self.run}) and --init ({self.init}) both name weights: give one of them")
        if self.probe_start and (self.init is not None or self.fork):
            other = "--fork" if self.fork else "--init"
            raise ValueError(f"--probe-start and {other}: the probe belongs to a run's own features; give one of them")


class FeaturesCommand(FeatureSettings, MeasuringCommand):
    """The feature quality check of a pretraining run."""

    data: str = _DATA_OF_RUN
    run: Positional[Path | None] = Field(None, description="pretraining run; default: the newest under output/")


class TestCommand(MeasuringCommand):
    """Score a run's model on the test images."""

    data: str = _DATA_OF_RUN
    run: Positional[Path | None] = Field(None, description="classifier run or study; default: the newest under output/")


class CheckCommand(DataSettings):
    """Counts, sizes, unreadable files and copies, before any training."""

    seed: int = Field(0, ge=0, le=2**31 - 1, description="of the validation split")
    out: Path | None = Field(None, description="folder for check.json and lists as CSV; default: none written")


class ReportCommand(Settings):
    """The report of a study or of one stage."""

    run: Positional[Path | None] = Field(None, description="run folder; default: the newest study under output/")
    out: Path | None = Field(None, description="file to write; default: report.html in the run folder")


class PredictCommand(Settings):
    """Class and confidence of each image of a folder."""

    run: Positional[Path] = Field(description="classifier run or study")
    folder: Positional[Path] = Field(description="images, any nesting")
    out: Path | None = Field(None, description="file to write; default: <run>/predictions-<folder>.csv")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="where to compute")
    precision: Literal["auto", "float32", "bf16", "fp16"] = Field("auto", description="as in training")
    cache: Path = Field(Path("data/cache"), description="where decoded images are kept")
    max_bad: Fraction = Field(1.0, description="share of unreadable files above which it is refused")


class ReplayCommand(Settings):
    """A training step whose numbers were not finite, once more, with a look at each layer."""

    run: Positional[Path | None] = Field(
        None, description="run or study; default: the newest that failed under output/"
    )
    device: Literal["auto", "cpu", "cuda", "mps"] | None = Field(None, description="where to compute; none: as the run")
    precision: Literal["auto", "float32", "bf16", "fp16"] | None = Field(None, description="none: as the run")
    threads: int | None = Field(None, ge=1, description="CPU threads; none: as the run")


class ExportCommand(Settings):
    """Weights for others."""

    run: Positional[Path | None] = Field(None, description="run or study; default: the newest pretraining run")
    to: Literal["pth"] = Field("pth", description="pth: a plain PyTorch state dict with timm's key names")
    out: Path | None = Field(None, description="folder to write to; default: the run's models/")


with warnings.catch_warnings():
    # pydantic warns that the field hides its own json(), which is long deprecated.
    warnings.simplefilter("ignore", UserWarning)

    class BenchCommand(Settings):
        """How fast this machine is at SimCLR; nothing is left on the disk."""

        what: Positional[Literal["step", "augment", "loss", "data", "all"]] = Field(
            "all", description="step: pretraining with data and views; augment, loss, data: these alone"
        )
        backbone: str | None = Field(None, description="timm model name; default: resnet18, on a GPU resnet50")
        stem: Literal["auto", "small", "small-pool", "original"] = Field("auto", description="as in training")
        image_size: int | None = Field(None, ge=8, le=1024, description="pixels; default: 64, on a GPU 96")
        view_size: int | None = Field(None, ge=8, description="height and width of views; none: the image size")
        batch_size: int | None = Field(None, ge=2, description="images a step; default: as in pretraining")
        steps: int = Field(3, ge=1, description="steps a round, more where they are short; three rounds are timed")
        unlabeled: Path | None = Field(None, description="folder of images, any nesting; default: random images")
        device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="where to compute")
        precision: Literal["auto", "float32", "bf16", "fp16"] = Field("auto", description="as in training")
        threads: int | None = Field(None, ge=1, description="CPU threads; default: all cores")
        json: bool = Field(False, description="one JSON object a line, no tables")  # type: ignore[assignment]


def stage_settings(command: type[Settings], *parts: Settings, **changes: Any) -> Any:
    """A command's settings from groups that hold its fields; fields of no use to it are left out."""
    values: dict[str, Any] = {}
    for part in parts:
        values.update({k: getattr(part, k) for k in type(part).model_fields if k in command.model_fields})
    values.update(changes)
    return command.model_validate(values)
