"""What a study compares, and where: seeds, smaller label budgets, folds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from twoviews.dataset.label_budget import label_counts
from twoviews.dataset.leaks import Hashed
from twoviews.dataset.parts import without_folds
from twoviews.errors import SettingsError
from twoviews.settings import LabelSettings, StudyCommand, numbers_of
from twoviews.stages.comparison import Comparison
from twoviews.stages.setup import Shared, limited, load, split, start_engine


@dataclass(frozen=True)
class Layout:
    """All the comparisons of a study.

    Attributes:
        mains: with all labels, one for each seed.
        budgets: with fewer labels, from few to many; each a list with one comparison for each seed.
        folds: one for each official fold, of the first seed.
    """

    mains: list[Comparison]
    budgets: list[list[Comparison]]
    folds: list[Comparison]

    @property
    def all(self) -> list[Comparison]:
        """Every comparison, in the order in which a study makes them: seed by seed."""
        by_seed = [[main, *(budget[i] for budget in self.budgets)] for i, main in enumerate(self.mains)]
        return [*by_seed[0], *self.folds, *(one for rest in by_seed[1:] for one in rest)]


def prepare_seeds(settings: StudyCommand) -> list[Shared]:
    """Engine and splits of each seed; the images are read and looked at once."""
    engine = start_engine(settings)
    source = load(settings)
    hashed = Hashed.of(source)
    splits = [split(source, settings, seed=settings.seed + i, hashed=hashed) for i in range(settings.seeds)]
    return [Shared(engine, one, data_written=i > 0) for i, one in enumerate(splits)]


def layout(settings: StudyCommand, seeds: list[Shared], root: Path) -> Layout:
    """The comparisons that the settings ask for.

    Raises:
        SettingsError: folds of data that has none, two numbers of labels that come to the same, or more than there are.
        DataError: no labels to train on.
    """
    seeds[0].require_labels()
    mains: list[Comparison] = []
    for i, shared in enumerate(seeds):
        seed = settings.seed + i
        folder = root if len(seeds) == 1 else root / f"seed{seed}"
        first = mains[0].folder if mains else folder
        pretrained = (folder if settings.pretrain_seeds else first) / "pretrain"
        mains.append(Comparison(folder, seed, shared, pretrained, shown=i == 0))
    budgets = [[_with(settings, main, labels) for main in mains] for labels in _budgets(settings, seeds[0])]
    _require_different(mains[0], [budget[0] for budget in budgets])
    folds: list[Comparison] = []
    if settings.folds:
        official = seeds[0].splits.folds
        if official is None:
            raise without_folds(seeds[0].splits.name, "--folds")
        folds = [_with(settings, mains[0], LabelSettings(fold=i)) for i in range(len(official))]
    return Layout(mains, budgets, folds)


def _budgets(settings: StudyCommand, shared: Shared) -> list[LabelSettings]:
    """The budgets that are less than all labels; all labels are the study itself."""
    most = int(label_counts(shared.splits).max())
    counts = [int(count) for count in numbers_of(settings.labels_per_class)]
    fractions = numbers_of(settings.label_fractions)
    if too_many := [count for count in counts if count > most]:
        raise SettingsError(
            f"--labels-per-class {settings.labels_per_class}: {shared.splits.name} has at most {most:,} labels of a "
            f"class; leave {too_many[0]:,} out."
        )
    budgets = [
        *(LabelSettings(labels_per_class=count) for count in counts if count < most),
        *(LabelSettings(label_fraction=fraction) for fraction in fractions if fraction < 1),
    ]
    if (counts or fractions) and not budgets:
        flag = "--labels-per-class" if counts else "--label-fractions"
        raise SettingsError(
            f"{flag} {settings.labels_per_class or settings.label_fractions}: those are all labels that "
            f"{shared.splits.name} has, and every study trains on them; name fewer."
        )
    return budgets


def _require_different(whole: Comparison, budgets: list[Comparison]) -> None:
    """Refuse budgets that buy the same number of labels: they would be one point of the label curve, trained twice."""
    bought = {_labels(whole): "the study itself does"}
    for budget in budgets:
        [(kind, value)] = budget.labels.items()
        flag = "--labels-per-class" if kind == "labels_per_class" else "--label-fractions"
        name, labels = f"{flag} {value:g}", _labels(budget)
        if labels in bought:
            raise SettingsError(f"{name} comes to {labels:,} labels, as {bought[labels]}; leave one of them out.")
        bought[labels] = name + " does"


def _labels(one: Comparison) -> int:
    return len(one.shared.splits.train) + len(one.shared.splits.val)


def _with(settings: StudyCommand, main: Comparison, labels: LabelSettings) -> Comparison:
    given = labels.model_dump(exclude_none=True)
    [(kind, value)] = given.items()
    name = f"fold-{value}" if kind == "fold" else f"labels-{value:g}"
    splits = limited(main.shared.splits, labels, settings, seed=main.seed)
    whole = len(main.shared.splits.train)
    return replace(
        main,
        folder=main.folder / name,
        shared=Shared(main.shared.engine, splits, data_written=True),
        labels=given,
        share=min(1.0, len(splits.train) / whole),
        shown=False,
    )
