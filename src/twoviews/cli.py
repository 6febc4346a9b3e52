"""The command line: a table of commands; only the chosen one's modules are loaded."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from twoviews import __version__
from twoviews.cpus import let_waiting_threads_sleep
from twoviews.errors import SettingsError, TwoviewsError
from twoviews.streams import unbroken_streams
from twoviews.trainers.leaving import leave
from twoviews.trainers.progress import as_line, speaks
from twoviews.trainers.signals import stops_at_once


@dataclass(frozen=True)
class Command:
    """Where a command's settings and its work are, and what it is for."""

    settings: str
    work: str
    usage: str
    sentence: str


COMMANDS = {
    "study": Command("StudyCommand", "run_study:run_study", "[DATA]", "the whole comparison, and report.html"),
    "check": Command(
        "CheckCommand", "stages.check:run_check", "DATA", "counts, bad files and copies, before any training"
    ),
    "supervised": Command("SupervisedCommand", "stages.classify:run_supervised", "DATA", "the baseline"),
    "pretrain": Command("PretrainCommand", "stages.pretrain:run_pretrain", "DATA", "SimCLR"),
    "features": Command(
        "FeaturesCommand",
        "stages.features:run_features",
        "[RUN]",
        "feature quality check: PCA, t-SNE, k-means, linear probe, kNN",
    ),
    "finetune": Command(
        "FinetuneCommand", "stages.classify:run_finetune", "[RUN]", "from a pretraining run to a classifier"
    ),
    "test": Command("TestCommand", "stages.test:run_test", "[RUN]", "test accuracy, confusion matrix, predictions.csv"),
    "report": Command("ReportCommand", "stages.report:run_report", "[RUN ...]", "one offline HTML page"),
    "predict": Command(
        "PredictCommand", "stages.predict:run_predict", "RUN FOLDER", "class and confidence of each image"
    ),
    "export": Command("ExportCommand", "stages.export:run_export", "[RUN]", "weights as a plain state dict"),
    "export-map": Command(
        "ExportMapCommand", "stages.export_map:run_export_map", "[RUN]", "maps for TensorBoard or as a Parquet table"
    ),
    "replay": Command(
        "ReplayCommand", "stages.replay:run_replay", "[RUN]", "a step that was not finite, looked at closely"
    ),
    "bench": Command("BenchCommand", "stages.bench:run_bench", "[WHAT]", "speed of step, augment, loss or data here"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code (``sys.exit(main())`` is what the console script does)."""
    with unbroken_streams():
        try:
            code = _main(list(sys.argv[1:] if arguments is None else arguments))
        except BaseException as error:
            leave(error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1)
            raise
        if code:
            leave(code)
        return code


def _main(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help())
        return 0 if words else 2
    if words[0] in ("-V", "--version"):
        print(f"twoviews {__version__}")
        return 0
    try:
        with stops_at_once():
            return _run(words[0], words[1:])
    except TwoviewsError as error:
        if speaks() or not error.of_all:
            _complain(str(error))
        return error.exit_code
    except ImportError as error:  # of a wrong build too: a library that it needs is not there
        if (error.name or "").startswith("twoviews"):
            raise
        _complain(f"{error.name or 'a package'} can't be loaded ({error}); install twoviews anew: pip install twoviews")
        return SettingsError.exit_code
    except KeyboardInterrupt as stop:
        if speaks():
            _complain(str(stop) or "stopped")
        return getattr(stop, "exit_code", 130)


def _complain(text: str) -> None:
    print(f"twoviews: {as_line(text)}", file=sys.stderr)


def script(command: str) -> int:
    """What the scripts at the root do: a command, with DATA or RUN as given or else as ``command`` says."""
    name, *default = command.split()
    words = sys.argv[1:]
    return main([name, *words] if words and not words[0].startswith("-") else [name, *default, *words])


def _help() -> str:
    width = max(len(f"{name} {c.usage}") for name, c in COMMANDS.items())
    lines = [f"  {f'{name} {c.usage}':<{width}}  {c.sentence}" for name, c in COMMANDS.items()]
    return "\n".join(
        [
            "twoviews: does self-supervised pretraining help on your images, and by how much?",
            "",
            "usage: twoviews COMMAND ...",
            "",
            *lines,
            "",
            "DATA is sample, stl10, cifar10, cifar10_as_stl10, or a folder: unlabeled/, train/<class>/, test/<class>/.",
            "RUN is a run folder; left out, it is the newest under output/.",
            "`twoviews COMMAND --help` lists a command's settings.",
        ]
    )


def _run(name: str, words: list[str]) -> int:
    if name not in COMMANDS:
        import difflib

        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean `twoviews {close[0]}`?" if close else "`twoviews --help` lists the commands."
        raise SettingsError(f"{name}: no such command; {hint}")
    from twoviews.command_line import parse

    settings = parse(name, COMMANDS[name].settings, words)
    let_waiting_threads_sleep()  # before torch is loaded
    module, function = COMMANDS[name].work.split(":")
    getattr(importlib.import_module(f"twoviews.{module}"), function)(settings)
    return 0


if __name__ == "__main__":
    sys.exit(main())
