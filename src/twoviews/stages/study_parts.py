"""The parts of a study that can be trained at once: what each needs, and which one should begin first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from twoviews.settings import StudyCommand
from twoviews.stages.comparison import Comparison, first_stages, labelled_passes, pretrained_stages
from twoviews.stages.study_layout import Layout

PRETRAINING = "pretrain"  # what other parts start from, so it is done before them
_BASELINE, _TEST = "supervised", "test"


@dataclass(frozen=True)
class StudyPart:
    """Stages of one comparison, done one after the other by one process.

    Attributes:
        folder: of the comparison.
        stages: their names, in order.
        passes: of each training, how often as many images as all labels have go through it.
        is_last: whether it needs the comparison's other parts: a test has the models of all of them.
    """

    folder: Path
    stages: tuple[str, ...]
    passes: dict[str, float]
    is_last: bool = False

    def place(self, root: Path) -> str:
        """What a line about it begins with: its comparison's folder in the study's, or that of a trial."""
        trial = [stage for stage in self.stages if "/" in stage]
        names = [name for name in (self.folder.relative_to(root).as_posix(), *trial) if name != "."]
        return f"{'/'.join(names)}: " if names else ""


def parts_of(settings: StudyCommand, plan: Layout) -> list[StudyPart]:
    """All parts of a study that has pretrained, the longest first."""
    return longest_first([part for one in plan.all for part in _parts(settings, one)])


def longest_first(parts: list[StudyPart]) -> list[StudyPart]:
    """The parts in an order in which none of those that take long begins when all others are done."""
    return sorted(parts, key=lambda part: (part.is_last, -sum(part.passes.values())))


def _parts(settings: StudyCommand, one: Comparison) -> list[StudyPart]:
    names = [name for name, _ in [*first_stages(settings, one), *pretrained_stages(settings, one)]]
    tuned = tuple(name for name in names if name not in (_BASELINE, PRETRAINING, _TEST))
    passes = labelled_passes(settings, one)
    return [
        StudyPart(one.folder, (_BASELINE,), {_BASELINE: passes.pop(_BASELINE)}),
        StudyPart(one.folder, tuned, passes),
        StudyPart(one.folder, (_TEST,), {}, is_last=True),
    ]


def next_part(waiting: Sequence[StudyPart], under_way: Sequence[StudyPart]) -> StudyPart | None:
    """The first that nothing keeps from beginning; None where all wait for those under way."""
    for part in waiting:
        needed = [other for other in (*waiting, *under_way) if other.folder == part.folder and not other.is_last]
        if not (part.is_last and needed):
            return part
    return None
