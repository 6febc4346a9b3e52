"""What every stage begins with: the engine, the data, the backbone, the run folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from twoviews.dataset.images import Source
from twoviews.dataset.label_budget import with_fold, with_label_fraction, with_labels_per_class
from twoviews.dataset.leaks import Hashed
from twoviews.dataset.parts import named_parts
from twoviews.dataset.sources import load_source, short_name
from twoviews.dataset.splits import Splits, make_splits
from twoviews.errors import CheckpointError, DataError, SettingsError
from twoviews.model.resnet50 import (
    Stem,
    count_parameters,
    create_backbone,
    feature_width,
    require_name,
    require_size,
    resolve_stem,
)
from twoviews.settings import DataSettings, LabelSettings, ModelSettings, RunSettings
from twoviews.stages.data_files import write_data
from twoviews.stages.folders import OUTPUT
from twoviews.trainers.determinism import naming_operations
from twoviews.trainers.engine import Engine
from twoviews.trainers.fork import copy_weights, origin_of
from twoviews.trainers.progress import say
from twoviews.trainers.run_folder import RunFolder
from twoviews.trainers.validate import Normalisation
from twoviews.trainers.weights import load_backbone_weights, read_weights


@dataclass
class Shared:
    """What the stages of a study have in common; a single command makes its own."""

    engine: Engine
    splits: Splits
    data_written: bool = False  # by the outermost run folder, a study's or a single stage's

    @property
    def normalisation(self) -> Normalisation:
        """Of the data set, the same for every model."""
        return Normalisation(self.splits.mean, self.splits.std)

    @property
    def image_size(self) -> int:
        """Height and width of the images in pixels."""
        return self.splits.unlabeled.image_size

    @property
    def can_train(self) -> bool:
        """Whether there are labels to train on."""
        return len(self.splits.train) > 0 and len(self.splits.class_names) > 1

    def require_labels(self) -> None:
        """Refuse to train a classifier where there is nothing to train it on.

        Raises:
            DataError: no labelled training images, or of one class alone.
        """
        if not self.can_train:
            raise DataError(f"{self.splits.name} has no labelled training images; add train/<class>/.")


def prepare(settings: Any, *, require_labels: bool = True) -> Shared:
    """Start the engine and load the data that a command's settings name."""
    engine = start_engine(settings)
    return Shared(engine, load_splits(settings, seed=settings.seed, require_labels=require_labels))


def start_engine(settings: Any) -> Engine:
    """The engine of a command, once what can be known to be wrong without the data is refused.

    An hour of decoding is no time to wait for that.
    """
    engine = Engine(settings)
    require_name(settings.backbone)
    if settings.init is not None and settings.init != "timm" and not Path(settings.init).is_file():
        raise CheckpointError(f"--init {settings.init}: no such weights file.")
    return engine


def prepare_alone(settings: Any, *, require_labels: bool = True) -> Shared:
    """``prepare`` for a command outside a study: it says itself what images there are."""
    shared = prepare(settings, require_labels=require_labels)
    say_counts(shared.splits)
    return shared


def load_splits(
    settings: DataSettings, *, seed: int, require_labels: bool = True, look_at_test: bool = False
) -> Splits:
    """Load the source, split validation off, remove copies, and keep the labels that the settings allow."""
    source = load(settings, require_labels=require_labels)
    splits = split(source, settings, seed=seed, look_at_test=look_at_test)
    return limited(splits, settings, settings, seed=seed) if isinstance(settings, LabelSettings) else splits


def load(settings: DataSettings, *, require_labels: bool = True) -> Source:
    """The source that the settings name."""
    return load_source(
        settings.data,
        unlabeled=settings.unlabeled,
        train=settings.train,
        val=settings.val,
        test=settings.test,
        image_size=settings.image_size,
        data_root=settings.data_root,
        cache=settings.cache,
        max_bad=settings.max_bad,
        max_pixels=settings.max_pixels,
        follow_links=settings.follow_links,
        require_labels=require_labels,
        progress=_download_progress(),
    )


def split(
    source: Source, settings: DataSettings, *, seed: int, look_at_test: bool = False, hashed: Hashed | None = None
) -> Splits:
    """A source's sets for a seed."""
    return make_splits(
        source,
        seed=seed,
        val_fraction=settings.val_fraction,
        keep_leaks=settings.keep_leaks,
        drop_near=settings.drop_near,
        look_at_test=look_at_test,
        hashed=hashed,
    )


def limited(splits: Splits, labels: LabelSettings, settings: DataSettings, *, seed: int) -> Splits:
    """The splits with the labels that a stage may use."""
    if labels.labels_per_class is not None:
        return with_labels_per_class(splits, labels.labels_per_class, seed=seed, val_fraction=settings.val_fraction)
    if labels.label_fraction is not None:
        return with_label_fraction(splits, labels.label_fraction, seed=seed, val_fraction=settings.val_fraction)
    return splits if labels.fold is None else with_fold(splits, labels.fold)


def _download_progress() -> Callable[[int, int, str], None]:
    """A line every tenth of the way of each long job (download, scan, decoding)."""
    shown: dict[str, int] = {}

    def progress(done: int, total: int, what: str) -> None:
        tenth = done * 10 // total if total else 0
        if total and tenth > shown.get(what, 0):
            shown[what] = tenth
            say(f"{what}: {tenth * 10} %")

    return progress


def say_counts(splits: Splits) -> None:
    """Print what images there are, and the notes about them."""
    counts = splits.counts
    say(
        f"{splits.name}: {counts['unlabeled']:,} unlabeled, {counts['train']:,} train, {counts['val']:,} validation "
        f"and {counts['test']:,} test images; {len(splits.class_names)} classes"
    )
    for note in splits.notes:
        say(f"note: {note}")


def new_backbone(settings: ModelSettings, image_size: int, *, seed: int, init: str | None = None) -> nn.Module:
    """A backbone with weights that follow from the seed, or from ``init`` (a weights file, or ``timm``)."""
    stem = resolve_stem(settings.stem, image_size, settings.backbone)
    torch.manual_seed(seed)
    backbone = create_backbone(settings.backbone, stem, pretrained=init == "timm")
    asked = (getattr(settings, key, None) for key in ("view_size", "first_view_size"))
    for size in {image_size, *filter(None, asked)}:
        require_size(backbone, settings.backbone, size)
    if init is not None and init != "timm":
        tensors, _ = read_weights(Path(init))
        said = load_backbone_weights(backbone, tensors, init)
        if not said.endswith(f" loaded from {init}, 0 others not used"):  # something was missing, renamed or left over
            say(said)
    return backbone


def about_model(settings: ModelSettings, shared: Shared, **more: Any) -> dict[str, Any]:
    """What someone needs to use the weights; kept inside the weights file."""
    return {
        "model": settings.backbone,
        "stem": resolve_stem(settings.stem, shared.image_size, settings.backbone),
        "image_size": shared.image_size,
        "mean": list(shared.splits.mean),
        "std": list(shared.splits.std),
        "data": shared.splits.name,
        **more,
    }


def backbone_from(about: dict[str, Any]) -> nn.Module:
    """An empty backbone as a weights file describes it."""
    stem: Stem = about.get("stem", "original")
    return create_backbone(about["model"], stem)


def in_run_folder(
    command: str,
    settings: Any,
    shared: Shared,
    work: Callable[[RunFolder], None],
    when_finished: Callable[[Path], None] | None = None,
) -> Path:
    """Do a command's work in its run folder, or, where that was done before, ``when_finished`` in the first process.

    Returns:
        The folder.
    """
    name = short_name(settings.data, named_parts(settings).values())
    default = settings.out or OUTPUT / f"{command}-{name}"
    machine = shared.engine.describe()
    # The first process finds the folder (--new makes it a new one) and the others follow.
    first = None
    if shared.engine.is_first:
        first = RunFolder.open(settings, default, machine=machine, data=shared.splits.fingerprint, fork=copy_weights)
    path = Path(shared.engine.share(str(first.path if first else default)))
    run = first or RunFolder(path, writes=False)
    try:
        # What the first process finds holds for all: they may not see its folder, and it may finish before they look.
        finished = bool(shared.engine.share("finished" if run.finished else ""))
        if finished:
            if shared.engine.is_first:
                say(f"{command}: already complete in {run.path}; use --new to run it again beside it")
                if when_finished is not None:
                    when_finished(run.path)
            return run.path
        if shared.engine.is_first:
            say(f"{command}: {run.path}, seed {settings.seed}")
        run.write_environment(machine, **origin_of(run.path))
        if shared.engine.is_first and not shared.data_written:
            write_data(run.path, shared.splits)
        shared.data_written = True
        with naming_operations():
            work(run)
        shared.engine.barrier()
        if shared.engine.is_first:
            say(f"{command}: results in {run.path}")
    except (SettingsError, DataError, CheckpointError, KeyboardInterrupt):
        run.forget()  # where nothing came of it, the corrected command finds the place free
        raise
    finally:
        run.release()
    return run.path


def say_model(name: str, settings: ModelSettings, module: nn.Module, shared: Shared) -> None:
    """Print the architecture and its size."""
    if not shared.engine.is_first:
        return
    backbone = module.backbone
    assert isinstance(backbone, nn.Module)
    head = count_parameters(module) - count_parameters(backbone)
    say(
        f"{name}: {settings.backbone}, {resolve_stem(settings.stem, shared.image_size, settings.backbone)} stem, "
        f"{count_parameters(backbone):,} parameters, {feature_width(backbone)} features, "
        f"and a head of {head:,} parameters"
    )


def settings_for(run: RunSettings) -> dict[str, Any]:
    """How a stage of a study runs: as the study, in a folder of its own."""
    keys = RunSettings.model_fields.keys() - {"out", "new", "fork", "config", "recipe", "minutes"}
    return {key: getattr(run, key) for key in keys}
