"""The whole comparison: baseline, SimCLR, feature check, fine-tuning, test, report; over seeds, labels and folds.

Every stage is a run folder of its own and goes on where it was, so a study that was stopped anywhere is finished by
the same command.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twoviews.evaluation.maps import require_umap
from twoviews.files import read_json, read_record, write_json
from twoviews.report.again.machine import seconds_by_stage
from twoviews.report.data import ReportData
from twoviews.report.health.section import write_label_errors
from twoviews.report.page import draw_report
from twoviews.report.study_figures import write_study_figures
from twoviews.settings import StudyCommand
from twoviews.stages.backbones import new_backbone
from twoviews.stages.combine import combined, curve_point, over_folds, savings
from twoviews.stages.comparison import Comparison, Work, clocked, first_stages, pretrained_stages, run_stages
from twoviews.stages.data_files import data_results
from twoviews.stages.in_run_folder import in_run_folder
from twoviews.stages.jobs import Jobs, require_one_process
from twoviews.stages.setup import Shared, say_counts
from twoviews.stages.study_layout import Layout, layout, prepare_seeds
from twoviews.stages.study_parts import PRETRAINING, parts_of
from twoviews.stages.study_plan import fitted
from twoviews.stages.study_words import protocol, say_found
from twoviews.stages.tune import Sweep
from twoviews.stages.tune_space import Kind
from twoviews.trainers.progress import duration, say
from twoviews.trainers.run_folder import RunFolder

SCHEMA = 1


def run_study(settings: StudyCommand) -> Path:
    """Run what is left of a study and write its results and report; returns the run folder."""
    seeds = prepare_seeds(settings)
    shared = seeds[0]
    require_one_process(settings, shared.engine)
    # What would fail after hours should fail now: no test part, weights or a package that can't be had.
    shared.splits.open_test()
    if settings.umap:
        require_umap()
    if settings.with_imagenet:
        new_backbone(settings, shared.image_size, seed=settings.seed, init="timm")
    return in_run_folder("study", settings, shared, lambda run: _study(settings, seeds, run), _say_again)


def _study(settings: StudyCommand, seeds: list[Shared], run: RunFolder) -> None:
    say_counts(seeds[0].splits)
    plan = layout(settings, seeds, run.path)
    settings = fitted(settings, plan, run)
    sweep = Sweep.of(settings, plan, run.path)
    train = _one_by_one if settings.jobs == 1 else _at_once
    settings = train(settings, plan, sweep, run)
    if run.writes:
        run.finish(_results(settings, plan, sweep, run))
        _report(run.path)


def _one_by_one(settings: StudyCommand, plan: Layout, sweep: Sweep, run: RunFolder) -> StudyCommand:
    """Every stage in this process; returns the settings with the recipes that a sweep chose."""
    for one in plan.all:
        first = one is plan.mains[0]
        if not first:
            say(f"study: {one.folder.relative_to(run.path)}, seed {one.seed}, {len(one.shared.splits.train):,} images")
        if first:
            settings = _tuned("supervised", sweep, settings, run)
        _timed(first_stages(settings, one), one, run)
        if first:
            settings = _tuned("finetune", sweep, settings, run)
        _timed(pretrained_stages(settings, one), one, run)
    return settings


def _at_once(settings: StudyCommand, plan: Layout, sweep: Sweep, run: RunFolder) -> StudyCommand:
    """Pretraining in this process, everything else in ``--jobs`` others; returns as ``_one_by_one``."""
    settings = _tuned("supervised", sweep, settings, run)
    for one in plan.all:
        _timed([(name, work) for name, work in first_stages(settings, one) if name == PRETRAINING], one, run)
    settings = _tuned("finetune", sweep, settings, run)
    Jobs(parts_of(settings, plan), settings, run.path, plan.mains[0].shared.engine, _Seconds(run).add).run()
    return settings


def _say_again(path: Path) -> None:
    """Say what a study that is finished has found; of one that was stopped at its last step, draw the page first."""
    if (path / "report.html").exists():
        say_found(path, path / "report.html")
    else:
        _report(path)


def _report(path: Path) -> None:
    """Write the page and say its verdict."""
    say("drawing the report")
    data = ReportData.read(path)
    write_study_figures(data)
    write_label_errors(data)
    say_found(path, draw_report(data))


def _tuned(kind: Kind, sweep: Sweep, settings: StudyCommand, run: RunFolder) -> StudyCommand:
    """The settings with the recipe that the sweep of this kind chooses; as they are without ``--tune``."""
    if not settings.tune:
        return settings
    at_once = settings.jobs > 1
    with clocked(f"tune/{kind}", _Seconds(run).add):
        if at_once:
            Jobs(sweep.trials(kind), sweep.settings, run.path, sweep.one.shared.engine).run()
        return sweep.tuned(kind, settings, were_run=at_once)


def _timed(stages: list[tuple[str, Work]], one: Comparison, run: RunFolder) -> None:
    """Run a comparison's stages, each with its time in seconds.json."""
    seconds = _Seconds(run)
    run_stages(
        stages, one, lambda name, *spent: seconds.add((one.folder / name).relative_to(run.path).as_posix(), *spent)
    )


class _Seconds:
    """seconds.json: how long each stage took, over all the times it was started."""

    def __init__(self, run: RunFolder) -> None:
        self._writes = run.writes
        self._path = run.path / "seconds.json"
        known = read_record(self._path, "delete it, and times are counted from now on") if self._path.exists() else {}
        self._seconds: dict[str, float] = known

    def add(self, name: str, seconds: float, done: bool) -> None:
        """Add to those of a stage, in the first process; say so where it is done."""
        if not self._writes:
            return
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds
        write_json(self._path, self._seconds)
        if done:
            say(f"{name}: done in {duration(self._seconds[name])}")


def _results(settings: StudyCommand, plan: Layout, sweep: Sweep, run: RunFolder) -> dict[str, Any]:
    """results.json of the study, put together from its stages'."""
    first = plan.mains[0]
    whole = _over_seeds(plan.mains)
    tuning = sweep.results() if settings.tune else None
    points = [*plan.budgets, plan.mains] if plan.budgets else []
    curve = [_point(point[0], whole if point is plan.mains else _over_seeds(point)) for point in points]
    folds = [_point(fold, _over_seeds([fold])) for fold in plan.folds]
    return {
        "schema": SCHEMA,
        "protocol": protocol(settings, plan, (tuning or {}).get("rule", "")),
        "data": data_results(first.shared.splits, keep_leaks=settings.keep_leaks, drop_near=settings.drop_near),
        "seeds": [one.seed for one in plan.mains],
        "pretrain_seeds": sorted({one.seed for one in plan.mains if one.pretrains}),
        **whole,
        "label_curve": curve,
        "label_savings": savings([(row["labels"], _tests(point)) for row, point in zip(curve, points, strict=True)]),
        "folds": folds,
        "folds_summary": over_folds(_tests(plan.folds), first.seed) if folds else None,
        "tuning": tuning,
        "features": _features(first.folder),
        "speed": {
            "pretrain_images_per_second": read_json(first.pretrained / "results.json")["images_per_second"],
        },
        "seconds": seconds_by_stage(read_json(run.path / "seconds.json")),
    }


def _over_seeds(seeds: list[Comparison]) -> dict[str, Any]:
    return combined(_tests(seeds), seeds[0].seed)


def _tests(repeats: list[Comparison]) -> list[Path]:
    return [one.folder / "test" for one in repeats]


def _point(first: Comparison, figures: dict[str, Any]) -> dict[str, Any]:
    """A point of the label curve, or a fold; ``first`` is its comparison with the first seed."""
    splits = first.shared.splits
    if "fold" in first.labels:
        # Validation images outside a fold choose nothing, so they are no labels that it had.
        return curve_point(figures, splits.counts, fold=first.labels["fold"], labels=splits.counts["train"])
    mean = round((len(splits.train) + len(splits.val)) / len(splits.class_names))
    return curve_point(figures, splits.counts, labels_per_class=first.labels.get("labels_per_class", mean))


def _features(folder: Path) -> dict[str, Any]:
    """The feature check's results, and what the test stage adds to them on test images."""
    tested = read_json(folder / "test/results.json")
    found: dict[str, Any] = read_json(folder / "features/results.json")
    more = {key: tested[key] for key in ("map_quality", "knn_protocols") if key in tested}
    if "knn" in tested["models"]:
        more["knn_test_top1"] = tested["models"]["knn"]["test_top1"]
    return {**found, "test": more}
