"""Fine-tuned models of several studies compared image by image, where they were tested on the same images."""

from __future__ import annotations

import gzip
import itertools
import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from twoviews.evaluation.seeds import difference_over_seeds
from twoviews.report.number_words import count
from twoviews.report.run import Run
from twoviews.report.several.pairs import Pair, Pairing
from twoviews.report.values import number

LEVEL = 0.95


@dataclass(frozen=True)
class TestedModel:
    """What a study's test stages say of its fine-tuned model.

    Attributes:
        images: id, file and label of each of N test images.
        correct: seed → (N,) whether its model was right.
        size: pixels that images have in this study, or None.
        digests: name of an image → what follows from its pixels and label; empty where that isn't known.
    """

    images: list[tuple[str, str, str]]
    correct: dict[int, npt.NDArray[np.bool_]]
    size: float | None
    digests: dict[str, str]


def compare_studies(runs: Sequence[Run], names: Sequence[str]) -> Pairing:
    """Every pair of those studies that share their test images; of several such groups the largest, or first.

    Models are paired by seed and image: over the seeds that both have, or, where they have none in common, the first of
    each. With several pairs each interval is as wide as it must be for all of them to hold together (Bonferroni).

    Args:
        runs: studies, finished or not.
        names: what they are called in sentences.
    """
    found = [_tested(run) for run in runs]
    groups: list[list[int]] = []
    for place, one in enumerate(found):
        if isinstance(one, TestedModel):
            home = next((group for group in groups if not _difference(_as_tested(found[group[0]]), one)), None)
            groups.append([place]) if home is None else home.append(place)
    group = max(groups, key=len, default=[])
    if len(group) < 2:
        return Pairing([], 0, [], LEVEL, "", _left_out(found, names, group))
    combinations = list(itertools.combinations(group, 2))
    level = 1 - (1 - LEVEL) / len(combinations)
    made = [_pair(a, b, _as_tested(found[a]), _as_tested(found[b]), level) for a, b in combinations]
    methods = list(dict.fromkeys(method for _, method in made))
    return Pairing(
        group,
        len(_as_tested(found[group[0]]).images),
        [pair for pair, _ in made],
        level,
        "; ".join(methods),
        _left_out(found, names, group),
    )


def _pair(a: int, b: int, first: TestedModel, second: TestedModel, level: float) -> tuple[Pair, str]:
    seeds = sorted(first.correct.keys() & second.correct.keys())
    rows = [(seed, seed) for seed in seeds] or [(min(first.correct), min(second.correct))]
    found = difference_over_seeds(
        np.stack([first.correct[mine] for mine, _ in rows]),
        np.stack([second.correct[theirs] for _, theirs in rows]),
        level=level,
    )
    sign: int | None = 1 if found.low > 0 else -1 if found.high < 0 else 0
    p = found.mcnemar_p if len(rows) == 1 else None
    if p is not None and (p < 1 - level) != bool(sign):
        sign = None
    return Pair(a, b, found.points, found.low, found.high, p, sign, len(rows)), found.method


def _as_tested(one: TestedModel | str) -> TestedModel:
    assert isinstance(one, TestedModel)
    return one


def _left_out(found: Sequence[TestedModel | str], names: Sequence[str], group: Sequence[int]) -> list[str]:
    """Why studies aren't compared; where none are, each against the first that was tested."""
    first = group[0] if group else next((i for i, one in enumerate(found) if isinstance(one, TestedModel)), None)
    said = []
    for place, one in enumerate(found):
        if isinstance(one, str):
            said.append(f"{names[place]} {one}.")
        elif place not in group and first is not None and place != first:
            reason = _difference(_as_tested(found[first]), one)
            said.append(f"{names[place]} and {names[first]} were not tested on the same images: {reason}.")
    return said


def _difference(first: TestedModel, second: TestedModel) -> str:
    """How the test images of two studies differ, in words; empty where they are the same."""
    a, b = len(first.images), len(second.images)
    if a != b:
        return f"{count(b)} and {count(a)} test images"
    other = [i for i, (x, y) in enumerate(zip(first.images, second.images, strict=True)) if x[:2] != y[:2]]
    if other:
        return f"{count(len(other))} of {count(a)} have other names, first {second.images[other[0]][1]}"
    other = [i for i, (x, y) in enumerate(zip(first.images, second.images, strict=True)) if x[2] != y[2]]
    if other:
        return f"{count(len(other))} of {count(a)} have other labels, first {second.images[other[0]][1]}"
    if first.size != second.size:
        return ""  # the pixels differ by their number alone; names and labels have to do
    files = [file for _, file, _ in first.images if file in first.digests and file in second.digests]
    changed = [file for file in files if first.digests[file] != second.digests[file]]
    return f"{count(len(changed))} of {count(a)} have other pixels, first {changed[0]}" if changed else ""


def _tested(run: Run) -> TestedModel | str:
    """What a study's test stages hold, or what is missing."""
    folders = {int(name[4:]): run.folder / name / "test" for name in run.seeds}
    folders = folders or {int(number(run.settings.get("seed")) or 0): run.folder / "test"}
    done = {seed: folder for seed, folder in folders.items() if (folder / "results.json").is_file()}
    if not done:
        return "has no finished test"
    correct = {}
    for seed, folder in done.items():
        try:
            with np.load(folder / "correct.npz", allow_pickle=False) as models:
                correct[seed] = models["finetuned"].astype(bool)
        except KeyError:
            return "has no fine-tuned model in its test"
        except (OSError, ValueError, zipfile.BadZipFile):
            return f"holds no readable {folder.relative_to(run.folder).as_posix()}/correct.npz"
    first = next(iter(done.values()))
    rows = run.table(first / "predictions.csv")
    images = [(row.get("id") or "", row.get("file") or "", row.get("label") or "") for row in rows]
    if not images or any(right.shape != (len(images),) for right in correct.values()):
        return "holds a test whose predictions.csv and correct.npz have different numbers of images"
    return TestedModel(
        images, correct, number(run.settings.get("image_size")), _digests(run.folder / "data-index.json.gz")
    )


def _digests(path: Path) -> dict[str, str]:
    try:
        content: Any = json.loads(gzip.decompress(path.read_bytes()))
        return {str(name): str(digest) for name, digest in content["images"].items()}
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, AttributeError):
        return {}
