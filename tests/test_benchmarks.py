"""Scripts in benchmarks/ still run, and what docs/scaling.md says of memory is what can be counted."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from twoviews.model.fused_resnet import FusedBasicBlock, fuse_resnets
from twoviews.model.resnet50 import create_backbone
from twoviews.settings import RunSettings
from twoviews.trainers.engine import Engine

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SCALING = (BENCHMARKS.parent / "docs/scaling.md").read_text()

Script = Callable[[str], Any]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    """A script as a module; scripts import one another by name, and nothing of that stays."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(BENCHMARKS)

    def load(name: str) -> Any:
        spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # where dataclasses look for it
        spec.loader.exec_module(module)
        return module

    yield load
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(BENCHMARKS)):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "stem", "size", "row"),
    [
        ("resnet50", "original", 96, "ResNet-50, 96 px, N = 256"),
        ("resnet18", "small", 24, "the same, views of 24 px"),
        ("resnet18", "original", 96, "ResNet-18, 96 px, N = 256"),
    ],
)
def test_the_numbers_of_a_view_are_the_networks(script: Script, name: str, stem: Any, size: int, row: str) -> None:
    numbers = script("memory").numbers_of_convolutions(create_backbone(name, stem), size)
    assert f"| {row} | {numbers:,} |" in SCALING


@pytest.mark.parametrize("fast", [True, False])
def test_a_step_of_step_speed_trains(script: Script, fast: bool) -> None:
    arguments = argparse.Namespace(backbone="resnet18_w16", image_size=16, batch_size=2)
    engine = Engine(RunSettings(device="cpu", precision="float32", threads=1))
    step = script("step_speed").make_step(engine, arguments, fast)
    before = torch.get_rng_state()
    step(0)
    assert torch.equal(
        torch.get_rng_state(), before
    )  # views are drawn without a generator: both variants' are the same


def test_convolutions_times_each_layer(
    script: Script, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = script("convolutions")
    monkeypatch.setattr(module, "matrix_product_rate", lambda engine: (1e11, 2048))
    words = ["--backbone", "resnet18_w16", "--image-size", "32", "--view-size", "8", "--batch-size", "1"]
    monkeypatch.setattr(sys, "argv", ["convolutions.py", *words, "--repeats", "1", "--threads", "1"])
    module.main()
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) > 2


def test_each_part_of_a_step_has_its_share(script: Script) -> None:
    module = script("step_profile")
    options = {"backbone": "resnet18_w16", "image_size": 16, "batch_size": 2, "device": "cpu", "threads": 1}
    settings, shared = module.prepare(None, 4, **options)
    task, optimizer = module.task_and_optimizer(settings, shared)
    stream = module.twoviews_loop(settings, shared, module.in_regions(task), optimizer)()
    found = module.profiled(stream, 1, on_gpu=False)
    assert found.keys() == {*module.KINDS, module.REST, module.BETWEEN}
    assert all(found.values())


def test_batchnorm_by_pieces_has_the_gradients_of_the_whole(script: Script) -> None:
    module = script("batchnorm_pieces")
    x, upstream = (torch.randn(8, 5, 4, 4).contiguous(memory_format=torch.channels_last) for _ in range(2))
    leaves = [leaf.requires_grad_() for leaf in (x, torch.rand(5), torch.rand(5))]
    pieces, whole = (module.ByPieces.apply(*leaves, 3), module.as_torch_does(*leaves))
    torch.testing.assert_close(pieces, whole, rtol=1e-4, atol=1e-5)
    for one, other in zip(*(torch.autograd.grad(out, leaves, upstream) for out in (pieces, whole)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_changed_labels_are_as_many_as_asked_and_other_ones(script: Script) -> None:
    module = script("label_errors")
    labels = np.repeat(np.arange(4), 25)
    odds = module.odds_of(labels, np.roll(labels, 1), 4)
    chosen, changed = module.change(labels, 0.2, odds, np.random.default_rng(0))
    assert len(chosen) == len(np.unique(chosen)) == 20
    assert np.array_equal(np.flatnonzero(changed != labels), np.sort(chosen))


def test_each_row_of_the_recipe_s_tables_has_settings_of_its_stage_and_a_folder_of_its_own(
    script: Script, tmp_path: Path
) -> None:
    module = script("recipe_changes")
    stages = sys.modules["development"].STAGES
    folders = []
    for name, group in module.GROUPS.items():
        for words, changes in group.rows.items():
            values = {**sys.modules["development"].recipe(group.stage), "data": "sample", **changes}
            settings = stages[group.stage][0].model_validate(values)
            assert all(getattr(settings, key) == value for key, value in changes.items())
            folders.append(module.run_name(name, words))
        assert len({str(changes) for changes in group.rows.values()}) == len(group.rows), name
    assert len(set(folders)) == len(folders)


def test_a_table_s_differences_are_from_the_first_row_seed_by_seed(script: Script, tmp_path: Path) -> None:
    module = script("recipe_changes")
    for seed, (base, other) in enumerate([(0.5, 0.52), (0.6, 0.57)]):
        for words, top1 in ((module.RECIPE, base), ("60 epochs", other)):
            folder = tmp_path / f"seed{seed}" / module.run_name("baseline", words)
            folder.mkdir(parents=True)
            (folder / "score.json").write_text(json.dumps({"top1": top1}))
    lines = list(module.table(tmp_path, [0, 1, 2], "baseline"))[2:]
    assert lines == ["| the recipe | 2 | 55.0 |  |", "| 60 epochs | 2 | 54.5 | +2.0, −3.0 |"]


def test_a_forecast_is_held_beside_the_longer_run(script: Script) -> None:
    module = script("forecasts")
    laws = [{"expected_gain": 2.0}, {"expected_gain": 4.0}]
    shorter = {"epochs": 12, "knn": 40.0, "expected_gain": 3.0, "ci95": [1.0, 6.0], "laws": laws}
    found = [module.compared(shorter, {"epochs": 24, "knn": knn}) for knn in (45.0, 47.0, 40.5)]
    assert [row["brought"] for row in found] == [5.0, 7.0, 0.5]
    assert [row["held"] for row in found] == [True, False, False]
    assert list(module.table(found[:2]))[2:] == [
        "| 12 | +3.0, +3.0 | 2.0 to 4.0, 2.0 to 4.0 | 1.0 to 6.0, 1.0 to 6.0 | +5.0, +7.0 |"
    ]


def test_the_layers_of_batchnorm_relu_are_all_there_are(script: Script) -> None:
    module = script("batchnorm_relu")
    backbone = fuse_resnets(create_backbone("resnet18_w16", "small"))
    if not any(isinstance(layer, FusedBasicBlock) for layer in backbone.modules()):
        pytest.skip("the kernels are for Linux")
    seen = module.layers_of(backbone, (2, 3, 16, 16))
    assert seen.total() == sum(isinstance(layer, nn.BatchNorm2d) for layer in backbone.modules()) == 20
    assert {with_addend for _, _, with_addend in seen} == {True, False}
