"""What several of the page's sections need of a run: each file read once, each result computed once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from twoviews.report.calibration.reliability import Reliability, reliability
from twoviews.report.explore.gather import Images, gather
from twoviews.report.features.aligned import aligned
from twoviews.report.health.suspects import PartSuspects, suspected_test_images, suspected_training_images
from twoviews.report.image_index import Maps
from twoviews.report.model_names import MODEL_NAMES
from twoviews.report.run import Run, load
from twoviews.report.tested import Tested, read_tested


@dataclass(frozen=True, eq=False)
class ReportData:
    """A run, and what was made of its files; each is made when it is first asked for.

    What can't be read is noted in the run's problems.

    Attributes:
        run: as `twoviews.report.run.load` read it.
    """

    run: Run

    @classmethod
    def read(cls, folder: Path) -> ReportData:
        """That of a study's folder, or of a single stage's.

        Raises:
            DataError: there is no such folder, or nothing in it was left by a run.
        """
        return cls(load(folder))

    @cached_property
    def checked_maps(self) -> Maps | None:
        """The feature check's maps, of training and validation images, turned to match SimCLR's."""
        found = self.run.maps("features")
        return aligned(found) if found else None

    @cached_property
    def tested_maps(self) -> Maps | None:
        """The test stage's maps, of test images alone, turned to match SimCLR's."""
        return aligned(self._drawn_maps.test_images()) if self._drawn_maps else None

    @cached_property
    def _drawn_maps(self) -> Maps | None:
        return self.run.maps("test")

    @cached_property
    def tested(self) -> Tested | None:
        """Every model's answers to the test images."""
        return read_tested(self.run)

    @cached_property
    def drawn(self) -> Images | None:
        """The images on the test stage's maps, also those of training and validation, where it has drawn them."""
        return gather(self.run, self._drawn_maps, self.tested)

    @cached_property
    def images(self) -> Images | None:
        """The test images on the test stage's maps."""
        return self.drawn.test_images() if self.drawn else None

    @cached_property
    def reliabilities(self) -> dict[str, Reliability]:
        """Of every model with known confidences, in the order in which models are named everywhere."""
        if self.tested is None:
            return {}
        known = list(MODEL_NAMES)
        models = sorted(self.tested.models, key=lambda name: known.index(name) if name in known else len(known))
        each = {name: reliability(*self.tested.judged(name)) for name in models}
        return {name: one for name, one in each.items() if one is not None}

    @cached_property
    def suspected_test_images(self) -> PartSuspects | None:
        """Test images whose label may be wrong; None where they could not be looked at."""
        return suspected_test_images(self.run, self.tested, self.images)

    @cached_property
    def suspected_training_images(self) -> PartSuspects | None:
        """Labelled training and validation images whose label may be wrong; None where they could not be looked at."""
        return suspected_training_images(self.run)
