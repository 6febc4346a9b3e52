"""How many images each class has in each labelled split, and whether that bends what accuracy says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from twoviews.listing import first_few
from twoviews.report.image_index import class_numbers
from twoviews.report.number_words import count, joined, percent
from twoviews.report.run import Run
from twoviews.report.tested import Tested

MOST_ROWS = 30
UNEVEN = 2.0
"""The largest class has so many times as many images as the smallest: worth a sentence on macro F1."""

DOMINANT = 0.5
"""One class is so large a share of the test images that accuracy mostly says how that one does."""

SPLIT_NAMES = {"train": "Training", "val": "Validation", "test": "Test"}


@dataclass(frozen=True)
class Balance:
    """The table of classes.

    Attributes:
        splits: names of the columns.
        rows: of each class its name and, for each split, the count and its share of the split's largest, in percent.
        says: what follows from the numbers.
        hidden: how many classes between the largest and the smallest are left out.
        is_warning: whether accuracy alone may mislead.
    """

    splits: list[str]
    rows: list[tuple[str, list[tuple[str, str]]]]
    says: list[str]
    hidden: int
    is_warning: bool


def class_counts(run: Run, tested: Tested | None) -> tuple[list[str], dict[str, list[int]]]:
    """Class names, and of each labelled split the images of each class; splits that the run doesn't list are left out.

    Training and validation come from the feature check's index, the test split from predictions.csv.
    """
    index = run.index("features")
    labels: dict[str, Counter[str]] = {}
    for split, label in zip(index.splits, index.labels, strict=True):
        labels.setdefault(split, Counter())[label] += 1
    names = run.class_names or (tested.class_names if tested else sorted(set(index.labels)))
    numbers = class_numbers(names)
    counts: dict[str, list[int]] = {}
    for split in ("train", "val"):
        if split in labels:
            counts[split] = [0] * len(names)
            for label, images in labels[split].items():
                if label in numbers:
                    counts[split][numbers[label]] += images
    if tested is not None and len(tested.class_names) == len(names):
        each = Counter(tested.labels.tolist())
        counts["test"] = [each[number] for number in range(len(names))]
    return names, {split: found for split, found in counts.items() if sum(found)}


def class_balance(run: Run, tested: Tested | None) -> Balance | None:
    """The table and its sentences; None for a run that lists no labelled images."""
    names, counts = class_counts(run, tested)
    if not counts:
        return None
    order, hidden = _shown(counts, len(names))
    largest = {split: max(found) for split, found in counts.items()}
    rows = [
        (
            names[i],
            [(count(found[i]), f"{100 * found[i] / largest[split]:.1f}%") for split, found in counts.items()],
        )
        for i in order
    ]
    says, is_warning = _says(names, counts)
    return Balance([SPLIT_NAMES[split] for split in counts], rows, says, hidden, is_warning)


def _shown(counts: Mapping[str, Sequence[int]], classes: int) -> tuple[list[int], int]:
    """All classes in their order; of very many the largest and the smallest."""
    if classes <= MOST_ROWS:
        return list(range(classes)), 0
    main = next(iter(counts.values()))
    order = sorted(range(classes), key=lambda i: -main[i])
    half = MOST_ROWS // 2
    return order[:half] + order[-half:], classes - 2 * half


def _says(names: Sequence[str], counts: Mapping[str, Sequence[int]]) -> tuple[list[str], bool]:
    says, even, is_uneven = [], [], False
    for split, found in counts.items():
        high, low = max(found), min(found)
        most, least = names[list(found).index(high)], names[list(found).index(low)]
        images = f"{SPLIT_NAMES[split].lower()} images"
        if not low:
            missing = [name for name, images_ in zip(names, found, strict=True) if not images_]
            few, more = first_few(missing, 3)
            says.append(f"There are no {images} of {joined([*few, f'{more} more'] if more else few)}.")
            is_uneven = True
        elif high >= UNEVEN * low:
            says.append(
                f"Uneven {images}: {most} has {high / low:.1f} times as many as {least}"
                f" ({count(high)} and {count(low)})."
            )
            is_uneven = True
        else:
            even.append((SPLIT_NAMES[split].lower(), high / low))
    if even and all(ratio == 1 for _, ratio in even):
        says.append(f"Classes are even: each has as many images as any other ({joined([split for split, _ in even])}).")
    elif even:
        times = joined([f"{ratio:.2f} times ({split})" for split, ratio in even])
        says.append(f"Classes are even: the largest has {times} as many images as the smallest.")
    tested = counts.get("test")
    if tested and max(tested) >= DOMINANT * sum(tested) and len(names) > 1:
        share, name = percent(max(tested) / sum(tested)), names[list(tested).index(max(tested))]
        says.insert(0, f"{share} of the test images are {name}, so always saying {name} would be right that often.")
        is_uneven = True
    if is_uneven:
        says.append("Accuracy counts images, so large classes weigh more; macro F1 and the table of classes don’t.")
    return says, is_uneven
