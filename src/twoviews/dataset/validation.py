"""Which labelled images validate: a part of each class, drawn from the seed, where the source brings none."""

from __future__ import annotations

import numpy as np

from twoviews.dataset.images import ImageSet, Indices
from twoviews.errors import DataError


def draw_validation(images: ImageSet, class_names: tuple[str, ...], seed: int, fraction: float) -> Indices:
    """Ascending positions of the validation images: a part of each class, drawn from (seed, class) alone.

    Raises:
        DataError: a class has fewer than 2 images.
    """
    assert images.labels is not None
    chosen: list[Indices] = [np.empty(0, dtype=np.int64)]
    if len(images):
        counts = np.bincount(images.labels, minlength=len(class_names))
        if counts.min() < 2:
            few = ", ".join(f"{class_names[i]}: {counts[i]}" for i in np.flatnonzero(counts < 2)[:10])
            raise DataError(
                f"Each class needs at least 2 labelled images, one to train and one to validate; there are "
                f"{few}. Add images, leave the class out, or bring your own val/<class>/."
            )
        for number in range(len(class_names)):
            members = np.flatnonzero(images.labels == number)
            count = validation_count(len(members), fraction)
            order = np.random.Generator(np.random.PCG64([seed, number])).permutation(len(members))
            chosen.append(members[order[:count]])
    return np.sort(np.concatenate(chosen))


def validation_count(labelled: int, fraction: float) -> int:
    """How many of a class's labelled images (at least 2) validate: the fraction, but one at least, and not all."""
    return min(max(1, int(labelled * fraction + 0.5)), labelled - 1)


def class_counts(images: ImageSet, class_names: tuple[str, ...]) -> list[int]:
    """Labelled images of each class."""
    assert images.labels is not None
    return [int(count) for count in np.bincount(images.labels, minlength=len(class_names))]


def require_each_class(train: ImageSet, val: ImageSet, class_names: tuple[str, ...], remedy: str) -> None:
    """Refuse splits in which a class has no image to train on or to validate with; ``remedy``: what else may help.

    Raises:
        DataError: there is such a class.
    """
    for part, images in (("train", train), ("val", val)):
        counts = class_counts(images, class_names)
        if min(counts) == 0:
            empty = ", ".join([name for name, count in zip(class_names, counts, strict=True) if count == 0][:10])
            raise DataError(
                f"No {part} image is left of {empty} (others have up to {max(counts)}), once copies of "
                f"held-out images are out: add images, leave the class out, or {remedy}."
            )
