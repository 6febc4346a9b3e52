"""Which images the test stage draws on its maps: test images, with ``--map-splits train,test`` labelled ones too."""

from __future__ import annotations

from dataclasses import dataclass

from twoviews.dataset.images import ImageSet, Indices
from twoviews.dataset.splits import Splits
from twoviews.settings import MapSettings
from twoviews.spacing import evenly_spaced, evenly_spaced_parts

MAP_IMAGES = 5_000  # test images, where they are alone on the maps
MOST_IMAGES = 13_000  # test and labelled images together: STL10's 8,000 and 5,000
FEWEST_TEST_IMAGES = 8_000  # of these, however many labelled ones there are


@dataclass(frozen=True)
class DrawnSplit:
    """The images of one split that are drawn.

    Attributes:
        split: ``test``, ``train`` or ``val``.
        images: all of the split.
        drawn: positions in ``images`` of those on the maps, ascending and evenly spaced.
    """

    split: str
    images: ImageSet
    drawn: Indices

    @property
    def chosen(self) -> ImageSet:
        """The images on the maps, without their labels."""
        return self.images.take(self.drawn).without_labels()


def map_parts(settings: MapSettings, test: ImageSet, splits: Splits) -> list[DrawnSplit]:
    """The parts on the maps in the order of index.csv: test images first, then those of training and validation."""
    if settings.map_splits == "test":
        return [DrawnSplit("test", test, evenly_spaced(len(test), MAP_IMAGES))]
    labelled = len(splits.train), len(splits.val)
    tests = min(len(test), max(FEWEST_TEST_IMAGES, MOST_IMAGES - sum(labelled)))
    train, val = evenly_spaced_parts(labelled, MOST_IMAGES - tests)
    parts = [
        DrawnSplit("test", test, evenly_spaced(len(test), tests)),
        DrawnSplit("train", splits.train, train),
        DrawnSplit("val", splits.val, val),
    ]
    return [part for part in parts if len(part.drawn)]
