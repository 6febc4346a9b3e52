"""Imports point down only; this walks them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import twoviews

ROOT = Path(twoviews.__file__).parent


def name_of(path: Path) -> str:
    parts = ["twoviews", *path.relative_to(ROOT).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {name_of(path): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(ROOT.rglob("*.py"))}


def imported(tree: ast.AST) -> Iterator[str]:
    """Full names of what is imported anywhere in a module; ``from a import b`` gives a and a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name their module in full"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


IMPORTS = {module: set(imported(tree)) for module, tree in TREES.items()}


def within(name: str, *layers: str) -> bool:
    return any(name == f"twoviews.{layer}" or name.startswith(f"twoviews.{layer}.") for layer in layers)


def crossings(layers: tuple[str, ...], forbidden: tuple[str, ...]) -> list[str]:
    """Every import from a module of ``layers`` of one of ``forbidden``."""
    return [
        f"{module} imports {name}"
        for module, names in IMPORTS.items()
        if within(module, *layers)
        for name in names
        if within(name, *forbidden)
    ]


ABOVE_TRAINERS = ("stages", "run_study", "cli", "command_line", "first_look", "flag_words", "help_words")
LAYERS = ("dataset", "model", "loss_functions", "trainers", "evaluation", "report", "sample", *ABOVE_TRAINERS)


def test_the_walk_sees_the_package() -> None:
    assert len(TREES) > 70
    assert "twoviews.trainers.engine" in IMPORTS["twoviews.trainers.train"]
    assert "twoviews.loss_functions.info_nce.info_nce" in IMPORTS["twoviews.trainers.steps"]
    assert crossings(("stages",), ("trainers",))  # where it is allowed, it is found


def test_the_ground_stands_on_nothing() -> None:
    grounds = ("settings", "errors", "files", "cpus", "listing", "processes", "processor", "spacing")
    assert crossings(grounds, LAYERS) == []
    assert crossings(("settings",), ("errors", "files", "processor")) == []
    assert crossings(("errors",), grounds) == []
    assert crossings(("files",), ("settings",)) == []


def test_dataset_model_and_losses_know_neither_each_other_nor_what_is_above() -> None:
    parts = ("dataset", "model", "loss_functions")
    above = ("settings", "recipes", "trainers", "evaluation", "report", *ABOVE_TRAINERS)
    for part in parts:
        assert crossings((part,), tuple(p for p in parts if p != part) + above) == []


def test_trainers_know_nothing_of_stages_or_what_they_feed() -> None:
    assert crossings(("trainers",), ("evaluation", "report", "recipes", *ABOVE_TRAINERS)) == []


def test_evaluation_works_on_arrays_alone() -> None:
    assert crossings(("evaluation",), ("trainers", "report", "recipes", "settings", *ABOVE_TRAINERS)) == []


def reached_from(module: str) -> set[str]:
    """Every module of ours that importing this one loads; the package itself loads the rest only when asked."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in TREES and name != "twoviews" and name not in seen:
            seen.add(name)
            waiting += [*IMPORTS[name], name.rpartition(".")[0]]
    return seen


def test_the_report_reads_run_folders_and_never_loads_torch() -> None:
    assert crossings(("report",), ("trainers", "evaluation", "model", "loss_functions", *ABOVE_TRAINERS)) == []
    heavy = ("torch", "torchvision", "timm", "lightning_fabric", "safetensors")
    reached = {m for module in TREES if within(module, "report") for m in reached_from(module)}
    assert not any(within(m, "trainers", "stages", "evaluation") for m in reached)
    loads = [f"{m} imports {name}" for m in reached for name in IMPORTS[m] if name.partition(".")[0] in heavy]
    assert loads == []


def test_one_file_knows_lightning_fabric() -> None:
    naming = {m for m, names in IMPORTS.items() if any(n.startswith(("lightning", "pytorch_lightning")) for n in names)}
    assert naming == {"twoviews.trainers.engine"}


def test_one_stage_opens_test_labels() -> None:
    calling = {
        module
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr in ("open_test", "_test")
        and module != "twoviews.dataset.splits"
    }
    # A study only looks whether there is a test part, before hours of training.
    assert calling == {"twoviews.stages.test", "twoviews.run_study"}
    study = next(
        n for n in ast.walk(TREES["twoviews.run_study"]) if isinstance(n, ast.Expr) and "open_test" in ast.dump(n)
    )
    assert isinstance(study.value, ast.Call), "the study's early check throws the labels away"
