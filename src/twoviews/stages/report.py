"""``twoviews report``: the page of a study or a stage, drawn anew from what its folder holds."""

from __future__ import annotations

from pathlib import Path

from twoviews.report.page import write_report
from twoviews.settings import ReportCommand
from twoviews.stages.folders import newest_run
from twoviews.trainers.progress import say


def run_report(settings: ReportCommand) -> Path:
    """Write the page; returns its path."""
    page = write_report(settings.run or newest_run("test/results.json", "study", up=1), settings.out)
    say(f"report: {page}")
    return page
