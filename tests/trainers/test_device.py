"""The device that is chosen, its layout of images, compiled networks, and the gradient scaler between trainings."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import small_tasks
import torch
from torch import nn

from twoviews.dataset import apply_views
from twoviews.errors import SettingsError
from twoviews.processor import image_layout
from twoviews.settings import RunSettings
from twoviews.trainers import engine as engine_module
from twoviews.trainers import validate
from twoviews.trainers.device import choose_device, choose_precision, compile_for_sizes
from twoviews.trainers.engine import Engine
from twoviews.trainers.steps import Batch


def test_every_size_of_views_is_compiled(monkeypatch: Any) -> None:
    """Views that grow from 48 to 96 pixels by 4 have 13 sizes, and torch's own limit is 8."""
    compiled = 0

    def backend(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> Any:
        nonlocal compiled
        compiled += 1
        return graph.forward

    monkeypatch.setattr(torch, "compile", lambda m, **how: COMPILE(m, backend=backend, **how))
    network = compile_for_sizes(nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1)))
    sizes = range(48, 100, 4)
    for size in [*sizes, *sizes]:
        network(torch.randn(2, 3, size, size))
    assert compiled == len(sizes)


COMPILE = torch.compile


def test_bf16_on_a_gpu_that_does_not_compute_in_it_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for major, automatic in ((7, "float32"), (8, "bf16")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda major=major: (major, 5))
        found = [choose_precision(asked, "cuda") for asked in ("auto", "fp16", "float32")]
        assert found == [automatic, "fp16", "float32"]
        assert capsys.readouterr().out == ""
        assert choose_precision("bf16", "cuda") == "bf16"
        assert ("use fp16" in capsys.readouterr().out) is (major < 8)


def test_a_training_begins_with_the_first_scale_whatever_was_trained_before() -> None:
    engine = Engine(RunSettings(device="cpu", precision="float32"))
    scaler = torch.amp.GradScaler("cpu", growth_interval=1)  # type: ignore[attr-defined]
    engine._fabric = SimpleNamespace(_precision=SimpleNamespace(scaler=scaler))  # type: ignore[assignment]
    engine._first_state = first = engine.state()
    weight = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        scaler.scale(weight.sum()).backward()
        scaler.step(optimizer)
        scaler.update()
    grown = engine.state()
    assert grown["scale"] == 8 * first["scale"]
    engine.load_state({})
    assert engine.state() == first
    engine.load_state(grown)
    assert engine.state() == grown


def test_apple_s_gpu_takes_one_process(monkeypatch: Any) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto") == choose_device("mps") == "mps"
    with pytest.raises(SettingsError, match=r"2 processes: .* --device cpu"):
        Engine(RunSettings(device="auto", devices=2))
    monkeypatch.setenv("WORLD_SIZE", "2")  # as torchrun says it
    with pytest.raises(SettingsError, match=r"2 processes: .* --device cpu"):
        Engine(RunSettings(device="mps"))
    assert choose_device("cpu", 2) == "cpu"


def test_a_run_says_that_apple_s_gpus_are_not_tested(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class NoFabric(Exception):
        pass

    def fabric(**how: Any) -> None:
        raise NoFabric

    monkeypatch.setattr("lightning_fabric.Fabric", fabric)
    for kind in ("cpu", "mps"):
        monkeypatch.setattr(engine_module, "choose_device", lambda asked, processes, kind=kind: kind)
        with pytest.raises(NoFabric):
            Engine(RunSettings())
        assert ("--device cpu" in capsys.readouterr().out) == (kind == "mps")


@pytest.mark.parametrize("kind", ["mps", "cpu", "cuda"])
def test_a_network_sees_images_and_kernels_in_the_device_s_layout(kind: str, monkeypatch: Any) -> None:
    """On Apple's GPUs nothing is channels last, in training and in evaluation: BatchNorm's gradient may be wrong there.

    Played on a CPU, which is told to lay images out as the other does, without the layers that are for CPUs.
    """
    layout = image_layout(torch.device(kind))
    for module in (apply_views, validate, engine_module):
        monkeypatch.setattr(module, "image_layout", lambda device: layout)
    if kind != "cpu":
        monkeypatch.setattr(engine_module, "speed_up_convolutions", lambda module: module)
        monkeypatch.setattr(engine_module, "fuse_resnets", lambda module: module)
    on, settings = small_tasks.engine(), small_tasks.simclr_settings()
    task = small_tasks.simclr(settings, on)
    seen: list[torch.Tensor] = []
    for layer in task.module.modules():
        if isinstance(layer, nn.Conv2d | nn.BatchNorm2d):
            layer.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    batch = Batch(*task.batches.get(torch.arange(4)), epoch=0, progress=1.0)
    loss, _ = task.step(task.module, batch)
    loss.backward()
    trained = len(seen)
    validate.forward_all(task.module, task.batches, validate.Normalisation(small_tasks.MEAN, small_tasks.STD), on)
    assert 0 < trained < len(seen)
    kernels = [p for p in task.module.parameters() if p.ndim == 4]
    assert all(tensor.is_contiguous(memory_format=layout) for tensor in [*seen, *kernels])
    assert (layout == torch.channels_last) == (kind != "mps")


def test_torch_starts_no_more_threads_than_a_container_s_share_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = 8

    def set_threads(count: int) -> None:
        nonlocal threads
        threads = count

    monkeypatch.setattr(engine_module, "usable_cpus", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(torch, "set_num_threads", set_threads)
    Engine(RunSettings(device="cpu"))
    assert threads == 2
    Engine(RunSettings(device="cpu", threads=5))  # as asked
    assert threads == 5
    threads = 1  # as OMP_NUM_THREADS asks
    Engine(RunSettings(device="cpu"))
    assert threads == 1
