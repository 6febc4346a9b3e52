"""The groups of settings that commands are made of: the one place for each default, its range and its help text.

Where a value depends on the data set, the default here is the one for STL10 and ``recipes.py`` says the others.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from tyro.conf import Positional

from twoviews.settings.base import Device, Fraction, Precision, Range, Settings, Stem, compares


class DataSettings(Settings):
    """Where the images come from."""

    data: Positional[str] = Field(
        "sample",
        description="sample, stl10, cifar10, cifar10_as_stl10, or a folder: unlabeled/, train/<class>/, test/<class>/",
    )
    unlabeled: Path | None = Field(None, description="folder of images for pretraining, any nesting")
    train: Path | None = Field(None, description="folder train/<class>/ of labelled images")
    val: Path | None = Field(None, description="folder val/<class>/; without it a part of train is held out")
    test: Path | None = Field(None, description="folder test/<class>/ of labelled images")
    image_size: int = Field(96, ge=8, le=1024, description="height and width in pixels of a folder's images")
    val_fraction: float = Field(0.1, gt=0, lt=1, description="part of train held out for validation")
    keep_leaks: bool = Field(False, description="keep training images that are copies of test images")
    drop_near: bool = Field(False, description="also leave out near copies of test images: encoded anew, turned, ...")
    data_root: Path = Field(Path("data"), description="where STL10 and CIFAR-10 lie or are downloaded to")
    cache: Path = Field(Path("data/cache"), description="where decoded images of a folder are kept")
    max_bad: Fraction = Field(0.05, description="share of unreadable files above which a run is refused")
    max_pixels: int = Field(128_000_000, ge=1, description="pixels above which a file is left out undecoded")
    follow_links: bool = Field(False, description="follow links that lead out of the data folder")

    @compares
    def _copies(self) -> None:
        if self.keep_leaks and self.drop_near:
            raise ValueError("--keep-leaks keeps every copy and --drop-near takes near ones out: give one of them")


class LabelSettings(Settings):
    """Which of the labelled images a stage may use, validation among them; a study goes through lists of them."""

    labels_per_class: int | None = Field(
        None, ge=2, description="labelled images of each class, validation among them; none: all"
    )
    label_fraction: float | None = Field(None, gt=0, le=1, description="the same as a part of each class")
    fold: int | None = Field(None, ge=0, description="official fold to train on, from 0 (stl10, cifar10_as_stl10)")

    @compares
    def _one_budget(self) -> None:
        names = ("labels_per_class", "label_fraction", "fold")
        given = [f"--{name.replace('_', '-')}" for name in names if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} both say which labels to use: give one of them")


class ModelSettings(Settings):
    """The backbone, the same in every stage."""

    backbone: str = Field("resnet50", description="timm model name, or resnet18_w16 / resnet18_w32")
    stem: Stem = Field("auto", description="first layer; auto: small for a ResNet up to 40 pixels, else original")
    init: str | None = Field(None, description="weights file to start from, or timm for its pretrained weights")


class RunSettings(Settings):
    """Where and how a command runs."""

    out: Path | None = Field(None, description="run folder; default output/<command>-<data>")
    new: bool = Field(False, description="start a new run beside an existing one (-2, -3, ...)")
    fork: bool = Field(
        False, description="start a new run beside an existing one from its weights, with these settings, at step 0"
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="everything random follows from it")
    device: Device = Field("auto", description="where to compute")
    precision: Precision = Field("auto", description="auto: bf16 where the processor has it and it pays, else float32")
    devices: int = Field(1, ge=1, description="processes (GPUs) on this machine")
    threads: int | None = Field(None, ge=1, description="CPU threads; default: all cores")
    deterministic: bool = Field(
        False, description="on a GPU: only operations that repeat bit for bit, which may be slower; a CPU always does"
    )
    recipe: str | None = Field(None, description="named settings; default: by DATA")
    config: Path | None = Field(None, description="YAML file of settings; flags win over it")
    minutes: float | None = Field(None, gt=0, description="lower the epochs until the run fits this time")

    @compares
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
    weight_decay: float = Field(5e-4, ge=0, description="not applied to biases and BatchNorm unless decay_all")
    decay_all: bool = Field(False, description="apply weight decay to biases and BatchNorm too")
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
    on_spike: Literal["warn", "stop", "rollback"] = Field(
        "warn", description="when the loss jumps; rollback: go back and leave out the 10 steps that led to it"
    )
    checkpoint_minutes: float = Field(10.0, gt=0, description="also save within long epochs, this often")
    cuda_graphs: bool = Field(True, description="on one GPU: record a step and play it back, the same bits sooner")
    torch_compile: bool = Field(False, description="compile the network: minutes at the start, faster steps after")

    @compares
    def _ranges(self) -> None:
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise ValueError(f"--crop-scale {low:g} {high:g}: should rise from above 0 to at most 1")
        if not 0 <= self.blur_sigma[0] <= self.blur_sigma[1]:
            low, high = self.blur_sigma
            raise ValueError(f"--blur-sigma {low:g} {high:g}: should rise from 0 or more")
        if self.first_view_size and self.view_size and self.first_view_size > self.view_size:
            raise ValueError(
                f"--first-view-size {self.first_view_size} is above --view-size {self.view_size}, which views grow to"
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
    weight_decay: float = Field(1e-4, ge=0, description="not applied to biases and BatchNorm unless decay_all")
    warmup_epochs: float = Field(10.0, ge=0, description="epochs of linear warm-up before the cosine; at most half")
    loss: Literal["info_nce", "dcl"] = Field(
        "info_nce", description="dcl: decoupled, the positive is not among the candidates"
    )
    temperature: float = Field(0.2, gt=0, le=100, description="temperature of the loss")
    projection_layers: Literal[2, 3] = Field(2, description="linear layers of the projection head")
    projection_hidden: int | None = Field(None, ge=1, description="its hidden width; none: as the features")
    projection_width: int = Field(128, ge=2, description="its output width")
    jitter_strength: float = Field(0.5, ge=0, le=2, description="s: brightness, contrast, saturation 0.8s, hue 0.2s")
    chunk_size: int | None = Field(
        None, ge=2, description="images at a time: the whole batch's exact gradient with a chunk's memory"
    )
    monitor_epochs: int = Field(5, ge=1, description="epochs between two looks at the features")

    @compares
    def _chunks(self) -> None:
        if self.chunk_size is not None and self.chunk_size > self.batch_size:
            raise ValueError(f"--chunk-size {self.chunk_size} is above --batch-size {self.batch_size}; leave it out")


class FinetuneSettings(ClassifierSettings):
    """From pretrained weights to a classifier."""

    base_lr: float = Field(0.2, gt=0, description="learning rate of the head per 256 images")
    backbone_lr_scale: float = Field(0.5, ge=0, le=1, description="the backbone's learning rate over the head's")
    freeze_backbone: bool = Field(False, description="train the head alone, BatchNorm in eval mode")
    head_layers: int = Field(
        0, ge=0, le=2, description="layers of the projection head to keep under the classifier (SimCLR v2: 1)"
    )
    probe_start: bool = Field(
        False, description="start the head as a linear probe fitted on the training images, not at zero"
    )


class FeatureSettings(Settings):
    """The feature quality check."""

    perplexity: float = Field(30.0, gt=1, description="of t-SNE; lowered where there are few images")
    clusters: int | None = Field(None, ge=2, description="k of k-means; none: the number of classes")
    maps: bool = Field(True, description="PCA, t-SNE and k-means beside the probes; --no-maps is faster")
    max_images: int = Field(20_000, ge=100, description="images drawn in maps; more are sampled evenly")


def _map_splits(value: Any) -> Any:
    """In one order, however they are given; YAML has them as text or a list."""
    given = value.split(",") if isinstance(value, str) else value if isinstance(value, (list, tuple)) else ()
    names = {str(name).strip() for name in given}
    if names - {"train", "test"} or "test" not in names:
        raise ValueError("should be test, or train,test")
    return ",".join(name for name in ("train", "test") if name in names)


class MapSettings(Settings):
    """The maps of the test stage."""

    map_splits: Annotated[str, BeforeValidator(_map_splits)] = Field(
        "test", description="images on the maps; train,test: also the labelled ones of training and validation"
    )
    umap: bool = Field(False, description="also draw UMAP maps; needs pip install 'twoviews[umap]'")

    @property
    def draws_more(self) -> str:
        """The flag that asks for more than the plain maps of test images; empty where none does."""
        return "--umap" if self.umap else "" if self.map_splits == "test" else "--map-splits"
