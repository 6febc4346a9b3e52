"""Weights from others: prefixes and heads are no matter, a wrong file is, and code in a file never runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from twoviews.errors import CheckpointError
from twoviews.model.resnet50 import create_backbone
from twoviews.settings import ModelSettings
from twoviews.stages.backbones import new_backbone
from twoviews.trainers.weights import load_backbone_weights, read_weights, save_weights


def backbone(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return create_backbone("resnet18_w16", "small")


def same(a: nn.Module, tensors: dict[str, Tensor]) -> bool:
    return all(torch.equal(v, tensors[k]) for k, v in a.state_dict().items())


@pytest.fixture
def source() -> dict[str, Tensor]:
    return dict(backbone(1).state_dict())


def test_safetensors_carry_the_weights_and_what_is_known_about_them(source: dict[str, Tensor], tmp_path: Path) -> None:
    about = {"model": "resnet18_w16", "stem": "small", "mean": [0.1, 0.2, 0.3]}
    save_weights(tmp_path / "w.safetensors", source, about)
    tensors, read = read_weights(tmp_path / "w.safetensors")
    assert read == about
    target = backbone(2)
    assert not same(target, source)
    loaded = load_backbone_weights(target, tensors, "w.safetensors")
    assert same(target, source)
    assert loaded.as_it_is
    assert loaded.sentence("it") == "100 of 100 tensors loaded from it, 0 others not used"


def test_a_plain_state_dict_is_loaded(source: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(source, tmp_path / "w.pth")
    tensors, about = read_weights(tmp_path / "w.pth")
    assert about == {}
    target = backbone(2)
    load_backbone_weights(target, tensors, "w.pth")
    assert same(target, source)


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.encoder_q.", "_orig_mod.model."])
def test_wrappers_and_prefixes_are_taken_off(
    source: dict[str, Tensor], tmp_path: Path, wrapper: str, prefix: str
) -> None:
    content = {wrapper: {prefix + name: tensor for name, tensor in source.items()}, "epoch": 3}
    torch.save(content, tmp_path / "w.pth")
    target = backbone(2)
    loaded = load_backbone_weights(target, read_weights(tmp_path / "w.pth")[0], "w.pth")
    assert same(target, source)
    counts = "100 of 100 tensors loaded from it, 0 others not used"
    assert loaded.sentence("it") == (f"{counts}; {prefix} taken off their names" if prefix else counts)
    assert loaded.as_it_is == (prefix == "")


def test_what_fits_whole_is_not_told_tensor_by_tensor(
    source: dict[str, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ModelSettings(backbone="resnet18_w16", stem="small")
    torch.save(source, tmp_path / "whole.pth")
    assert same(new_backbone(settings, 32, seed=2, init=str(tmp_path / "whole.pth")), source)
    assert capsys.readouterr().out == ""
    torch.save({**source, "memory.queue": torch.ones(3)}, tmp_path / "more.pth")
    new_backbone(settings, 32, seed=2, init=str(tmp_path / "more.pth"))
    assert "100 of 100 tensors loaded from " in capsys.readouterr().out
    torch.save({f"module.{name}": tensor for name, tensor in source.items()}, tmp_path / "wrapped.pth")
    new_backbone(settings, 32, seed=2, init=str(tmp_path / "wrapped.pth"))
    assert "module. taken off their names" in capsys.readouterr().out


def test_two_different_backbones_in_a_file_are_refused(source: dict[str, Tensor]) -> None:
    """An average of the weights beside the weights, say: which one was meant is not for us to guess."""
    other = {f"module.{name}": tensor + 1 for name, tensor in source.items()}
    target = backbone(2)
    before = {k: v.clone() for k, v in target.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"two backbones: conv1\.weight and module\.conv1\.weight differ"):
        load_backbone_weights(target, {**source, **other}, "w.pth")
    assert same(target, before)
    twice = {**source, **{f"module.{name}": tensor for name, tensor in source.items()}}
    load_backbone_weights(target, twice, "w.pth")
    assert same(target, source)


def test_heads_are_of_no_use_and_no_sign_of_a_wrong_file(source: dict[str, Tensor]) -> None:
    heads = {name: torch.ones(3) for name in ("fc.weight", "module.head.bias", "projection_head.0.weight")}
    target = backbone(2)
    loaded = load_backbone_weights(target, {**source, **heads}, "w.pth")
    assert same(target, source)
    assert loaded.unused == 0
    loaded = load_backbone_weights(target, {**source, **heads, "memory.queue": torch.ones(3)}, "w.pth")
    assert (loaded.unused, loaded.as_it_is) == (1, False)
    assert loaded.sentence("w.pth").endswith("1 others not used")


def test_too_few_that_fit_are_refused_with_an_example(source: dict[str, Tensor]) -> None:
    target = backbone(2)
    before = {k: v.clone() for k, v in target.state_dict().items()}
    needed = [name for name in source if not name.endswith("num_batches_tracked")]
    assert len(needed) == 100

    one_missing = {k: v for k, v in source.items() if k != needed[40]}
    loaded = load_backbone_weights(backbone(3), one_missing, "w")
    assert not loaded.as_it_is
    assert loaded.sentence("w") == f"99 of 100 tensors loaded from w ({needed[40]} is missing), 0 others not used"

    two_missing = {k: v for k, v in one_missing.items() if k != needed[41]}
    with pytest.raises(
        CheckpointError, match=rf"only 98 of the backbone's 100 tensors fit \({needed[40]} is missing\)"
    ):
        load_backbone_weights(target, two_missing, "w")

    other_shape = {**one_missing, "conv1.weight": torch.zeros(16, 3, 7, 7)}
    with pytest.raises(CheckpointError, match=r"conv1\.weight has another shape.*--backbone and --stem"):
        load_backbone_weights(target, other_shape, "w")
    assert same(target, before)


class Payload:
    """Unpickled, it would leave a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_code_in_a_file_is_named_and_does_not_run(source: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({**source, "extra": Payload(tmp_path / "ran")}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"w\.pth holds more than tensors \(\w+\.mkdir\) and is not") as error:
        read_weights(tmp_path / "w.pth")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()
    torch.load(tmp_path / "w.pth", weights_only=False)
    assert (tmp_path / "ran").exists()  # the payload is live: it was the reader that kept it from running


@pytest.mark.parametrize("version", ["2.9.1", "2.9.1+cu128", "2.0.0"])
def test_an_old_torch_reads_safetensors_alone(
    source: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    torch.save(source, tmp_path / "w.pth")
    save_weights(tmp_path / "w.safetensors", source, {})
    monkeypatch.setattr(torch, "__version__", version)
    with pytest.raises(CheckpointError, match=r"CVE-2026-24747.*torch 2\.10 or newer.*\.safetensors"):
        read_weights(tmp_path / "w.pth")
    assert read_weights(tmp_path / "w.safetensors")[0].keys() == source.keys()
    for newer in ("2.10.0", "2.14.1+cpu", "3.0.0a0"):
        monkeypatch.setattr(torch, "__version__", newer)
        read_weights(tmp_path / "w.pth")


def test_metadata_of_another_kind_is_an_error_of_one_line(source: dict[str, Tensor], tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", source, [])  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="metadata"):
        read_weights(tmp_path / "w.safetensors")


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_a_damaged_or_missing_file_is_an_error_of_one_line(
    source: dict[str, Tensor], tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    with pytest.raises(CheckpointError, match="no such weights file"):
        read_weights(path)
    if name.endswith("pth"):
        torch.save(source, path)
    else:
        save_weights(path, source, {})
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="is not a whole weights file") as error:
        read_weights(path)
    assert "\n" not in str(error.value)
