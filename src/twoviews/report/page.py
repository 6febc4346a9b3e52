"""One offline HTML page from a run folder: no network, every picture inside, scripts for its maps and curves alone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from twoviews import __version__
from twoviews.files import write_text
from twoviews.report import pictures, tables
from twoviews.report.again.section import again_section
from twoviews.report.calibration.section import calibration_section
from twoviews.report.charts.section import charts_section
from twoviews.report.clusters.section import cluster_section
from twoviews.report.confusion import classes
from twoviews.report.confusion.section import confusion_section
from twoviews.report.data import ReportData
from twoviews.report.explore.section import explore_section
from twoviews.report.features.section import feature_section
from twoviews.report.folds import folds_section
from twoviews.report.health import copies
from twoviews.report.health.section import health_section
from twoviews.report.labels.section import label_section
from twoviews.report.learning_words import learning_sentences
from twoviews.report.loss_words import jumps_says, loss_sentences
from twoviews.report.model_names import MODEL_FOLDERS, model_name
from twoviews.report.number_words import count, digits_for, duration, percent, percent_range, signed, signed_range
from twoviews.report.run import Run
from twoviews.report.stage_files import STAGE_NAMES
from twoviews.report.standing import place_of, standing
from twoviews.report.style import showable
from twoviews.report.tuning import tuning_section
from twoviews.report.values import dig, items, number, pair
from twoviews.report.verdict import verdict
from twoviews.report.views.section import view_section


def write_report(run: Path, out: Path | None = None) -> Path:
    """Write the page of a study, finished or not, or of a single stage.

    Args:
        run: the run folder; its files are described in docs/runs.md.
        out: where the page goes; by default ``report.html`` in the run folder.

    Returns:
        The page's path.

    Raises:
        DataError: ``run`` is not a folder that a run left.
        ResourceError: the page can't be written.
    """
    return draw_report(ReportData.read(run), out)


def draw_report(data: ReportData, out: Path | None = None) -> Path:
    """Write the page of a run that was read already; otherwise as `write_report`.

    Raises:
        ResourceError: the page can't be written.
    """
    target = out or data.run.folder / "report.html"
    page, content = template(), _content(data)
    # A nonce that follows from all the page says: the same folder gives the same page, and no name in it can know it.
    nonce = hashlib.sha256(page.render(**content, nonce="").encode("utf-8", "surrogatepass")).hexdigest()[:32]
    write_text(target, page.render(**content, nonce=nonce))
    return target


def template(name: str = "template.html.j2") -> Any:
    """The page's template, or one that it includes; what it is given is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Runs before escaping: names of files may hold bytes that no page can.
        finalize=lambda value: showable(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
    )
    # NaN is no JSON: a browser would refuse all of it.
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return environment.get_template(name)


# Where the reader may want to go, in the page's order: key of what is shown there, place, name.
_PLACES = (
    ("by_labels", "labels", "Labels"),
    ("models", "models", "Models"),
    ("folds", "folds", "Folds"),
    ("curves", "curves", "Training"),
    ("confusion", "confusion", "Mistakes"),
    ("calibration", "calibration", "Calibration"),
    ("features", "features", "Features"),
    ("clusters", "clusters", "Clusters"),
    ("views", "views", "Views"),
    ("counts", "data", "Data"),
    ("again", "again", "Do it again"),
)


def _content(data: ReportData) -> dict[str, Any]:
    """Everything the template shows."""
    run = data.run
    folder = run.folder.resolve()
    named = folder.parent.name if folder.name in STAGE_NAMES else folder.name
    name = str(dig(run.results, "data", "name") or dig(run.settings, "data") or named)
    pairs = copies.leak_pairs(run)
    skipped, skipped_count = tables.skipped(run)
    rows = classes.classes(run)
    curves, where = pictures.classifier_curves(run), _where(run)
    ahead = standing(run.results)
    shown = {
        "version": __version__,
        "title": f"{name}: did pretraining help?" if run.kind == "study" else f"{name}: {STAGE_NAMES[run.kind]}",
        "eyebrow": f"{name} · {'SimCLR and a supervised baseline' if run.kind == 'study' else 'one stage'}",
        "headline": "" if run.kind == "study" else STAGE_NAMES[run.kind],
        "unfinished": run.unfinished,
        "verdict": verdict(run.results),
        "ahead": ahead,
        # Said once: of the two compared the verdict says where the better one is.
        "ahead_place": place_of(run, ahead.model) if ahead and MODEL_FOLDERS.get(ahead.model) != where else "",
        "tiles": _tiles(run),
        "summary": _summary(run),
        "explore": explore_section(data),
        "by_labels": label_section(run),
        "models": tables.models(run),
        "protocols": tables.protocols(run),
        "by_seed": tables.by_seed(run),
        "dots": pictures.dots(run),
        "where": where,
        "folds": folds_section(run),
        "tuning": tuning_section(run),
        "seeds": run.seeds,
        "shown": run.shown,
        "charts": charts_section(run),
        "curves": curves,
        "is_comparison": len(curves) == 2,
        "pretraining": pictures.pretraining_curves(run),
        "learning": _learning(run),
        "jumps": jumps_says(run.stages.values()),
        "confusion": confusion_section(run, rows),
        "classes": classes.class_table(rows),
        "features": feature_section(data),
        "stage_pictures": _stage_pictures(run),
        "clusters": cluster_section(data),
        "views": view_section(run),
        "calibration": calibration_section(data),
        "health": health_section(data),
        "counts": tables.counts(run),
        "exact_copies": copies.exact_copies_sentence(run),
        "leaks": tables.leaks(run),
        "leak_pairs": pairs,
        "more_leaks": len(items(run.data.get("leaks"))) - len(pairs),
        "conflicts": tables.conflicts(run),
        "skipped": skipped,
        "skipped_count": skipped_count,
        "notes": [str(note) for note in items(run.data.get("notes"))],
        "again": again_section(run, where),
        "started": str(run.environment.get("started") or ""),
        # Last, because reading the other files may add to it.
        "problems": list(dict.fromkeys(run.problems)),
        "count": count,
    }
    contents = [(place, name) for key, place, name in _PLACES if shown[key]] if run.kind == "study" else []
    return shown | {"contents": contents}


def _tiles(run: Run) -> list[dict[str, str]]:
    """The few figures that the first screen shows large."""
    tiles = []
    for model in ("supervised", "finetuned", "linear_probe", "random_init_linear_probe"):
        row = dig(run.results, "models", model)
        if number(dig(row, "test_top1")) is not None:
            range_ = percent_range(dig(row, "ci95"))
            tiles.append({"name": model_name(model), "value": percent(dig(row, "test_top1")), "range": f"{range_}%"})
    comparison = dig(run.results, "comparison", "finetuned_minus_supervised")
    points, ends = number(dig(comparison, "points")), pair(dig(comparison, "ci95"))
    if points is not None:
        shown = signed(points, digits_for([points, *(ends or ())]))
        difference = {"name": "Difference, points", "value": shown, "range": signed_range(ends)}
        tiles.insert(2, difference)
    return tiles


def _summary(run: Run) -> list[tuple[str, str]]:
    """The plain numbers of a single stage's own results."""
    if run.kind in ("study", "features"):
        return []
    last = run.stages[run.kind].metrics[-1] if run.stages[run.kind].metrics else {}
    found = {key: value for key, value in {**last, **run.results}.items() if key not in ("schema", "lr")}
    shown = []
    for key, value in found.items():
        if number(value) is None:
            continue
        plain = count(value) if isinstance(value, int) else f"{value:.4g}".replace("-", "−")
        text = percent(value) if "top1" in key else duration(value) if key == "seconds" else plain
        shown.append((key.replace("_", " "), text))
    return shown


def _learning(run: Run) -> list[str]:
    """Whether pretraining went well and was long enough, of the run whose curves are shown."""
    if "pretrain" not in run.stages:
        return []
    stage, own = run.stages["pretrain"], dig(run.settings, "pretrain") if run.kind == "study" else run.settings
    settings = {"image_size": run.settings.get("image_size"), **(own if isinstance(own, Mapping) else {})}
    return [*loss_sentences(stage.metrics, settings), *learning_sentences(stage.results)]


def _stage_pictures(run: Run) -> list[pictures.Picture]:
    """A classifier's confusion matrix of validation images, where the page is about that stage alone."""
    if run.kind not in ("supervised", "finetune"):
        return []
    path = run.folder / "logs" / "confusion_matrix_validation.png"
    found = pictures.embed_file(path, "Confusion matrix of the validation images.", run.problems)
    return [found] if found else []


def _where(run: Run) -> str:
    """The stage whose classifier to take, by the verdict; none of two that can't be told apart."""
    answer = verdict(run.results)
    if answer is None or run.kind != "study":
        return ""
    return {"helped": "finetune", "hurt": "supervised"}.get(answer.kind, "")
