"""``twoviews report``: the page of a study or a stage, or of several studies, drawn anew from what folders hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from twoviews.errors import SettingsError
from twoviews.report.page import write_report
from twoviews.settings import ReportCommand
from twoviews.stages.folders import newest_study
from twoviews.trainers.progress import say


def run_report(settings: ReportCommand) -> Path:
    """Write the page of one run, by default the newest study, or the one that compares several; returns its path."""
    if len(settings.runs) > 1:
        page = _compare(settings.runs, settings.out)
    else:
        run = settings.runs[0] if settings.runs else newest_study("test/results.json", "study")
        page = write_report(run, settings.out)
    say(f"report: {page}")
    return page


def _compare(folders: Sequence[Path], out: Path | None) -> Path:
    """The page of several studies.

    Raises:
        SettingsError: one is named twice or is no study, or the page would overwrite a file that is none of ours.
        DataError: a folder that no run left.
    """
    # A single page needs neither statistics nor this one's parts.
    from twoviews.report.run import load
    from twoviews.report.several.files import several_path
    from twoviews.report.several.headline import study_names
    from twoviews.report.several.page import write_several
    from twoviews.stages.compare_studies import compare_studies

    known: dict[Path, Path] = {}
    for folder in folders:
        if folder.resolve() in known:
            raise SettingsError(f"{known[folder.resolve()]} and {folder} are the same run: name each study once")
        known[folder.resolve()] = folder
    several_path(folders, out)
    runs = [load(folder) for folder in folders]
    for folder, run in zip(folders, runs, strict=True):
        if run.kind != "study":
            raise SettingsError(
                f"{folder} is one stage ({run.kind}), and studies are compared: name the study's folder"
            )
    return write_several(runs, compare_studies(runs, study_names(folders)), out)
