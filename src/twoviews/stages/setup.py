"""What every stage begins with: the engine and the data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twoviews.dataset.images import Source
from twoviews.dataset.label_budget import with_fold, with_label_fraction, with_labels_per_class
from twoviews.dataset.leaks import Hashed
from twoviews.dataset.sources import load_source
from twoviews.dataset.splits import Splits, make_splits
from twoviews.errors import DataError
from twoviews.model.resnet50 import require_name
from twoviews.settings import DataSettings, LabelSettings
from twoviews.trainers.engine import Engine
from twoviews.trainers.progress import say
from twoviews.trainers.validate import Normalisation


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
    """The engine of a command, once a backbone that timm does not know is refused: before an hour of decoding."""
    engine = Engine(settings)
    require_name(settings.backbone)
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
