"""BatchNorm, shortcut and ReLU as one operation: PyTorch's values, gradients, statistics; the same bits each time."""

from __future__ import annotations

import copy
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.models import resnet
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import Tensor, nn

from twoviews.model import batchnorm_relu as subject
from twoviews.model import batchnorm_start, fused_resnet
from twoviews.model.batchnorm_relu import batchnorm_relu, batchnorm_relu_for_two
from twoviews.model.batchnorm_start import kernels
from twoviews.model.fused_resnet import FusedBasicBlock, FusedBottleneck, FusedResNet, fuse_resnets
from twoviews.model.resnet50 import create_backbone

needs_kernels = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernels are for Linux")


@needs_kernels
def test_the_kernels_are_there() -> None:
    """Without this a kernel that does not compile would only be slow."""
    if sys.version_info >= (3, 15):
        pytest.skip("numba is not asked for there")
    assert kernels() is not None


@needs_kernels
def test_the_kernels_leave_pytorch_as_many_threads_as_it_had() -> None:
    """In a process of its own: numba sets OpenMP's threads once, when its first loop runs."""
    code = (
        "import os, torch; from twoviews.model.batchnorm_start import kernels; more = os.cpu_count() + 1; "
        "torch.set_num_threads(more); torch.ones(1 << 20).relu(); assert kernels() is not None; "
        "torch.ones(1 << 20).relu(); assert torch.get_num_threads() == more"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def norm_of(channels: int) -> nn.BatchNorm2d:
    torch.manual_seed(channels)
    norm = nn.BatchNorm2d(channels)
    nn.init.uniform_(norm.weight, -1, 2)
    nn.init.normal_(norm.bias)
    return norm


def maps(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape).to(dtype).contiguous(memory_format=torch.channels_last)


def all_of(norm: nn.BatchNorm2d, x: Tensor, relu: bool, addend: Tensor | None, upstream: Tensor) -> list[Tensor]:
    """Output, gradients of x, weights and addend, and the statistics."""
    norm = copy.deepcopy(norm).to(torch.float64 if x.dtype == torch.float64 else torch.float32)
    given = [t.detach().clone().requires_grad_() for t in (x, addend) if t is not None]
    out = batchnorm_relu(norm, given[0], nn.ReLU() if relu else None, *given[1:])
    out.backward(upstream.to(out.dtype))
    found = [out, *(t.grad for t in given), norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var]
    return [t.detach() for t in found if t is not None]


def error(mine: Tensor, right: Tensor) -> float:
    return float(((mine.double() - right.double()).norm() / right.double().norm()).detach())


@needs_kernels
@pytest.mark.parametrize("with_addend", [False, True])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(
    "shape", [(2, 3, 1, 1), (3, 3, 5, 7), (16, 16, 6, 6), (64, 300, 3, 3), (5, 64, 7, 1), (96, 32, 24, 24)]
)
def test_float32_is_float64_to_rounding(shape: tuple[int, ...], relu: bool, with_addend: bool) -> None:
    norm = norm_of(shape[1])
    x, upstream = maps(*shape) * 2 + 1, maps(*shape)
    addend = maps(*shape) if with_addend else None
    ours = all_of(norm, x, relu, addend, upstream)
    right = all_of(norm, x.double(), relu, None if addend is None else addend.double(), upstream.double())
    assert len(ours) == len(right) == 6 + with_addend
    for mine, its in zip(ours, right, strict=True):
        # Two values a channel: they are normalised to one of each sign, and of its gradient all but rounding cancels.
        assert error(mine, its) < 3e-6 or (shape[0] == 2 and (mine - its).abs().max() < 1e-3)


@needs_kernels
@pytest.mark.parametrize("with_addend", [False, True])
def test_bf16_is_no_further_from_float64_than_pytorch(with_addend: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    norm = norm_of(48)
    shape = (32, 48, 9, 9)
    x, upstream = maps(*shape, dtype=torch.bfloat16), maps(*shape, dtype=torch.bfloat16)
    addend = maps(*shape, dtype=torch.bfloat16) if with_addend else None
    ours = all_of(norm, x, True, addend, upstream)
    right = all_of(norm, x.double(), True, None if addend is None else addend.double(), upstream.double())
    monkeypatch.setattr(subject, "_takes_kernels", lambda *_: False)
    theirs = all_of(norm, x, True, addend, upstream)
    assert [t.dtype for t in ours] == [t.dtype for t in theirs]
    for mine, its, exact in zip(ours, theirs, right, strict=True):
        assert error(mine, exact) <= 1.1 * error(its, exact) + 1e-5
    assert not torch.equal(ours[1], theirs[1])  # the kernels were asked the first time


@needs_kernels
@pytest.mark.parametrize("with_addend", [False, True])
@pytest.mark.parametrize("used", [(1, 1), (1, 0), (0, 1)])
def test_an_output_for_two_has_the_gradient_of_both(used: tuple[int, int], with_addend: bool) -> None:
    norm, shape = norm_of(48), (8, 48, 9, 9)
    x, addend = maps(*shape), maps(*shape) if with_addend else None
    upstreams = [maps(*shape) for _ in used]
    found: list[list[Tensor]] = []
    for dtype in (torch.float32, torch.float64):
        layer = copy.deepcopy(norm).to(dtype)
        given = [t.to(dtype, copy=True).requires_grad_() for t in (x, addend) if t is not None]
        outputs = batchnorm_relu_for_two(layer, given[0], nn.ReLU(), *given[1:])
        assert torch.equal(*outputs)
        total = sum((out * up).sum() for out, up, is_used in zip(outputs, upstreams, used, strict=True) if is_used)
        assert isinstance(total, Tensor)
        total.backward()
        grads = [t.grad for t in (*given, layer.weight, layer.bias)]
        found.append([grad for grad in grads if grad is not None])
        assert len(found[-1]) == 3 + with_addend
    for mine, its in zip(*found, strict=True):
        assert error(mine, its) < 3e-6


@needs_kernels
@pytest.mark.parametrize("where", ["layer1", "layer1.0", "maxpool", "layer1.0.bn2"])
def test_whoever_hooks_into_a_resnet_sees_the_whole_gradient(where: str) -> None:
    torch.manual_seed(0)
    plain = with_random_norms(create_backbone("resnet18_w16", "small")).to(memory_format=torch.channels_last)
    images = maps(8, 3, 16, 16)
    seen: list[Tensor] = []
    for net in (plain, fuse_resnets(copy.deepcopy(plain))):
        net.get_submodule(where).register_forward_hook(lambda _, __, out: out.register_hook(seen.append) and None)
        net(images).square().sum().backward()
    assert len(seen) == 2
    assert error(seen[1], seen[0]) < 1e-2


@needs_kernels
@pytest.mark.parametrize("way", ["forward", "compile", "subclass", "global hook", "hook inside"])
def test_a_block_that_somebody_altered_is_called_as_a_module(way: str) -> None:
    net = fuse_resnets(create_backbone("resnet18_w16", "small"))
    block, calls = net.layer1[1], []
    usual = block.forward

    def noted(*given: Any) -> Any:
        calls.append(given)
        return usual(*given)

    handle = None
    if way == "forward":
        block.forward = noted
    elif way == "compile":
        block._compiled_call_impl = noted  # what block.compile() sets
    elif way == "subclass":
        block.__class__ = type("Own", (FusedBasicBlock,), {"forward": lambda self, x: noted(x)})
    elif way == "global hook":
        handle = nn.modules.module.register_module_forward_pre_hook(
            lambda module, _: calls.append(module) if module is block else None
        )
    else:
        block.conv1.register_forward_pre_hook(lambda _, given: calls.append(given[0]))
    try:
        out = net(maps(8, 3, 16, 16)).square().sum()
    finally:
        if handle is not None:
            handle.remove()
    assert len(calls) == 1
    if way == "hook inside":
        assert isinstance(calls[0], Tensor)
        (whole,) = torch.autograd.grad(out, calls[0])
        assert whole.norm() > 0  # by the convolution alone it is none: a block's last BatchNorm begins as zero


@needs_kernels
def test_where_no_gradient_arrives_none_is_given() -> None:
    class Ends(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, *_: Tensor) -> None:
            return None

    x = maps(4, 16, 3, 3).requires_grad_()
    (Ends.apply(batchnorm_relu(norm_of(16), x, nn.ReLU())).sum() + (2 * x).sum()).backward()
    assert x.grad is not None
    assert (x.grad == 2).all()


@needs_kernels
def test_no_operation_adds_a_shortcut_s_gradient() -> None:
    net = fuse_resnets(create_backbone("resnet18_w16", "small")).to(memory_format=torch.channels_last)
    out = net(maps(8, 3, 16, 16)).sum()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True) as profile:
        out.backward()
    added = [event for event in profile.events() if event.name in ("aten::add", "aten::add_")]
    assert not [event for event in added if event.input_shapes and len(event.input_shapes[0]) == 4]


@needs_kernels
def test_a_mean_far_from_zero_costs_no_digits() -> None:
    norm, x = norm_of(16), maps(64, 16, 8, 8) + 300
    out = batchnorm_relu(norm, x, None)
    assert (
        error(out, nn.functional.batch_norm(x.double(), None, None, norm.weight.double(), norm.bias.double(), True))
        < 1e-4
    )
    constant = torch.full((4, 16, 3, 3), 0.1)
    assert torch.allclose(batchnorm_relu(norm, constant, None)[0, :, 0, 0], norm.bias, atol=1e-5)


@needs_kernels
def test_nor_does_a_first_value_far_from_the_others() -> None:
    norm, x = norm_of(16), maps(64, 16, 32, 32)
    x[0, :, 0, 0] += 100
    exact = nn.functional.batch_norm(x.double(), None, None, norm.weight.double(), norm.bias.double(), True)
    assert error(batchnorm_relu(norm, x, None), exact) < 3e-6


@needs_kernels
def test_saved_tensors_may_come_back_in_another_layout() -> None:
    norm, x, addend = norm_of(16), maps(4, 16, 5, 5), maps(4, 16, 5, 5)
    upstream = maps(4, 16, 5, 5)
    expected = all_of(norm, x, True, addend, upstream)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.contiguous(), lambda t: t):
        found = all_of(norm, x, True, addend, upstream)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@needs_kernels
@pytest.mark.parametrize("name", ["weight", "bias", "running_mean", "running_var"])
@pytest.mark.parametrize("wrong", ["short", "strided", "bf16", "subclass", "elsewhere"])
def test_tensors_that_the_kernels_must_not_read_are_left_to_pytorch(name: str, wrong: str) -> None:
    """They are given addresses: what lies there has to be what they take it for."""

    class Wrapper(Tensor):
        pass

    norm, x = norm_of(16), maps(4, 16, 3, 3)
    assert subject._takes_kernels(norm, x, None, None)
    kept = getattr(norm, name)
    other = {
        "short": lambda: kept.detach()[:8].clone(),
        "strided": lambda: torch.ones(16, 2)[:, 0],
        "bf16": lambda: kept.detach().bfloat16(),
        "subclass": lambda: kept.detach().as_subclass(Wrapper),
        "elsewhere": lambda: kept.detach().to("meta"),
    }[wrong]()
    delattr(norm, name)
    setattr(norm, name, other)
    assert not subject._takes_kernels(norm, x, None, None)


@needs_kernels
def test_a_count_of_batches_that_is_none_is_left_to_pytorch() -> None:
    norm, x = norm_of(16), maps(4, 16, 3, 3)
    for count in (None, torch.tensor(0, dtype=torch.int32), torch.tensor(0, device="meta")):
        norm.num_batches_tracked = count
        assert not subject._takes_kernels(norm, x, None, None)
        norm.eval()
        with torch.no_grad():
            assert subject._takes_kernels(norm, x, None, None)  # nothing is counted
        norm.train()


@needs_kernels
def test_kernels_are_compiled_whatever_the_default_device_and_kind_of_numbers() -> None:
    usual = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.bfloat16)
        with torch.device("meta"):
            assert batchnorm_start.compiled_for.__wrapped__(torch.float32)
    finally:
        torch.set_default_dtype(usual)


@needs_kernels
def test_saved_tensors_may_come_back_as_other_numbers() -> None:
    norm, x, upstream = norm_of(16), maps(4, 16, 5, 5, dtype=torch.bfloat16), maps(4, 16, 5, 5, dtype=torch.bfloat16)
    expected = all_of(norm, x, True, None, upstream)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.double(), lambda t: t):
        found = all_of(norm, x, True, None, upstream)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@needs_kernels
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_goes_pytorch_s_way() -> None:
    """numba would end it: GNU's OpenMP does not outlive a fork."""
    norm, x = norm_of(16), maps(4, 16, 5, 5)
    batchnorm_relu(norm, x, None)
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        os._exit(0 if not subject._takes_kernels(norm, x, None, None) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert subject._takes_kernels(norm, x, None, None)


@needs_kernels
def test_where_nothing_can_be_compiled_pytorch_does_it_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    kernel = kernels()
    monkeypatch.setattr(kernel, "backward", full)
    with pytest.warns(UserWarning, match="No space left"):
        assert not batchnorm_start.compiled_for.__wrapped__(torch.float32)


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bits_depend_neither_on_the_threads_nor_on_the_run(dtype: torch.dtype) -> None:
    norm, x, upstream = norm_of(64), maps(64, 64, 24, 24, dtype=dtype), maps(64, 64, 24, 24, dtype=dtype)
    addend = maps(64, 64, 24, 24, dtype=dtype)
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 1, 2):
            torch.set_num_threads(count)
            found.append(all_of(norm, x, True, addend, upstream))
    finally:
        torch.set_num_threads(threads)
    for again in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(again, found[0], strict=True))


@needs_kernels
def test_the_compiler_may_change_no_sum() -> None:
    """fastmath let it: then a process that compiled the kernels and one that found them on disk had other last bits."""
    kernel = kernels()
    found = [f for f in vars(kernel).values() if hasattr(f, "targetoptions")]
    assert len(found) > 10
    assert not any(f.targetoptions.get("fastmath") for f in found)


# Output and gradients of a few layers, as hexadecimal digits.
SOME_BITS = """
import hashlib, torch
from torch import nn
from twoviews.model.batchnorm_relu import batchnorm_relu_for_two
from twoviews.model.batchnorm_start import compiled_for
torch.set_num_threads(1)
torch.manual_seed(0)
found = hashlib.sha256()
for channels, size in ((16, 24), (64, 6), (3, 5)):
    for addend in (None, torch.randn(32, channels, size, size).requires_grad_()):
        norm, x = nn.BatchNorm2d(channels), torch.randn(32, channels, size, size).requires_grad_()
        outputs = batchnorm_relu_for_two(norm, x, nn.ReLU(), addend)
        torch.autograd.backward(outputs, [torch.randn(x.shape), torch.randn(x.shape)])
        assert compiled_for(x.dtype)
        for tensor in (outputs[0], x.grad, norm.weight.grad, norm.running_var):
            found.update(tensor.detach().contiguous().numpy().tobytes())
print(found.hexdigest())
"""


@needs_kernels
@pytest.mark.slow
def test_bits_are_those_of_kernels_that_lay_on_disk(tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    compiled, found = (
        subprocess.run([sys.executable, "-c", SOME_BITS], env=environment, check=True, capture_output=True).stdout
        for _ in range(2)
    )
    assert list(tmp_path.rglob("*.nbc"))
    assert len(compiled) > 60
    assert compiled == found


@needs_kernels
def test_rounding_to_bf16_is_pytorch_s_for_every_number() -> None:
    """All of bf16 times 1 + 2^-9, which needs rounding: half-way cases, overflow, denormals, infinities, NaN."""
    every = torch.arange(2**16, dtype=torch.int32).to(torch.uint16).view(torch.bfloat16)
    x = every.view(64, 64, 4, 4).contiguous(memory_format=torch.channels_last)
    norm = nn.BatchNorm2d(64, eps=0.0).eval()
    factor = 1 + 2**-9
    nn.init.constant_(norm.weight, factor)
    with torch.no_grad():
        out = batchnorm_relu(norm, x, None)
        rectified = batchnorm_relu(norm, x, nn.ReLU())
    expected = (x.float() * factor).to(torch.bfloat16)
    assert torch.equal(out.isnan(), expected.isnan())
    known = ~expected.isnan()
    assert torch.equal(out[known], expected[known])
    assert torch.equal(rectified.isnan(), expected.isnan())  # ReLU lets NaN pass
    assert torch.equal(rectified[known], expected[known].relu())


@needs_kernels
def test_numbers_that_are_none_reach_the_output_and_the_gradient() -> None:
    for bad in (math.nan, math.inf):
        x = maps(4, 16, 3, 3)
        x[1, 5, 2, 2] = bad
        x.requires_grad_()
        out = batchnorm_relu(norm_of(16), x, nn.ReLU())
        out.sum().backward()
        assert x.grad is not None
        for found in (out, x.grad):
            assert found[:, 5].isnan().all()
            assert found[:, :5].isfinite().all()


@needs_kernels
@pytest.mark.parametrize("momentum", [0.1, 0.01, None])
@pytest.mark.parametrize("tracked", [True, False])
def test_statistics_are_kept_as_pytorch_keeps_them(momentum: float | None, tracked: bool) -> None:
    ours = nn.BatchNorm2d(16, momentum=momentum, track_running_stats=tracked)
    theirs = copy.deepcopy(ours)
    for _ in range(3):
        x = maps(8, 16, 5, 5) * 3 + 1
        assert torch.allclose(batchnorm_relu(ours, x, None), theirs(x), atol=1e-5)
    for mine, its in zip(ours.buffers(), theirs.buffers(), strict=True):
        assert torch.allclose(mine, its, rtol=1e-5)
    ours.track_running_stats = False  # as chunks.py does for all but one pass over a chunk
    before = [buffer.clone() for buffer in ours.buffers()]
    batchnorm_relu(ours, maps(8, 16, 5, 5), None)
    assert all(torch.equal(a, b) for a, b in zip(ours.buffers(), before, strict=True))
    ours.eval()
    theirs.eval()
    with torch.no_grad():
        assert torch.allclose(batchnorm_relu(ours, x, nn.ReLU()), theirs(x).relu(), atol=1e-5)


@needs_kernels
def test_what_the_kernels_are_not_made_for_is_left_to_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: Any) -> None:
        raise AssertionError("the kernels were asked")

    monkeypatch.setattr(subject._BatchNormReLU, "apply", asked)
    monkeypatch.setattr(kernels(), "evaluated", asked)
    x = maps(4, 16, 3, 3)
    norm, relu = nn.BatchNorm2d(16), nn.ReLU()
    with pytest.raises(AssertionError, match="were asked"):
        batchnorm_relu(norm, x, relu)

    class Derived(nn.BatchNorm2d):
        pass

    frozen = copy.deepcopy(norm).eval()
    without_bias, hooked, relu_hooked = copy.deepcopy(norm), copy.deepcopy(norm), nn.ReLU()
    without_bias.bias = None
    seen: list[str] = []
    hooked.register_forward_hook(lambda *_: seen.append("norm"))
    relu_hooked.register_forward_pre_hook(lambda *_: seen.append("relu"))
    for other, act, given in (
        (Derived(16), relu, x),
        (nn.InstanceNorm2d(16), relu, x),
        (norm, nn.SiLU(), x),
        (nn.BatchNorm2d(16, affine=False), relu, x),
        (without_bias, relu, x),
        (hooked, relu, x),
        (norm, relu_hooked, x),
        (copy.deepcopy(norm).double(), relu, x.double()),
        (frozen, relu, x.requires_grad_()),
    ):
        reference = copy.deepcopy(other)
        assert torch.equal(batchnorm_relu(other, given, act), act(reference(given)))
    assert seen.count("norm") == seen.count("relu") == 2
    for channels in (3, 32):
        with pytest.raises(RuntimeError, match="running_mean"):
            batchnorm_relu(norm, maps(4, channels, 3, 3), relu)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        batchnorm_relu(nn.BatchNorm2d(16), maps(1, 16, 1, 1), relu)


def with_random_norms(backbone: nn.Module) -> nn.Module:
    for layer in backbone.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.1)
    return backbone


@needs_kernels
@pytest.mark.parametrize(
    ("name", "stem"), [("resnet18_w16", "small"), ("resnet50", "original"), ("resnet18d", "original")]
)
def test_a_resnet_stays_the_same_function_under_the_same_names(name: str, stem: Any) -> None:
    torch.manual_seed(0)
    plain = with_random_norms(create_backbone(name, stem)).to(memory_format=torch.channels_last)
    fused = fuse_resnets(copy.deepcopy(plain))
    exact = copy.deepcopy(plain).double()
    kinds = {type(m) for m in fused.modules()}
    assert FusedResNet in kinds
    assert kinds.isdisjoint({ResNet, BasicBlock, Bottleneck})
    assert list(fused.state_dict()) == list(plain.state_dict())
    images = maps(16, 3, 32, 32)
    found: list[list[Tensor]] = []
    for net in (plain, fused, exact):
        out = net(images.to(next(net.parameters()).dtype))
        out.square().mean().backward()
        with torch.no_grad():
            evaluated = net.eval()(images.to(out.dtype))
        found.append([out, evaluated, *(p.grad for p in net.parameters() if p.grad is not None), *net.buffers()])
    theirs, ours, right = found
    assert len(ours) == len(right)
    # Where a number is near zero ReLU's kink tells two roundings apart, in either of them.
    worst = [max(error(mine, its) for mine, its in zip(some, right, strict=True)) for some in (ours, theirs)]
    assert worst[0] < max(2 * worst[1], 1e-2)
    assert error(ours[0], right[0]) < max(2 * error(theirs[0], right[0]), 1e-5)


def test_blocks_with_more_in_them_and_checkpointed_stages_go_timm_s_way(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    for options in ({"drop_path": nn.Dropout(0.5)}, {"drop_block": nn.Dropout}, {"attn_layer": "se"}):
        for kind in (BasicBlock, Bottleneck):
            block = kind(16 * kind.expansion, 16, **options)
            fused = fuse_resnets(copy.deepcopy(block))
            x = maps(4, 16 * kind.expansion, 6, 6)
            torch.manual_seed(1)
            expected = block(x)
            torch.manual_seed(1)
            assert torch.equal(fused(x), expected)
    net = with_random_norms(create_backbone("resnet18_w16", "small"))
    net.set_grad_checkpointing(True)
    calls: list[int] = []
    in_pieces = resnet.checkpoint_seq

    def noted(stages: Any, x: Tensor, **options: Any) -> Tensor:
        calls.append(len(stages))
        out: Tensor = in_pieces(stages, x, **options)
        return out

    monkeypatch.setattr(resnet, "checkpoint_seq", noted)
    images = maps(4, 3, 16, 16)
    grads = []
    for each in (copy.deepcopy(net), fuse_resnets(net)):
        each(images).square().sum().backward()
        grads.append([p.grad for p in each.parameters()])
    assert calls == [4, 4]
    assert all(error(mine, its) < 1e-2 for its, mine in zip(*grads, strict=True))


def test_without_the_kernels_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "_takes_kernels", lambda *_: False)
    monkeypatch.setattr(fused_resnet, "kernels", lambda: None)
    net = create_backbone("resnet18_w16", "small")
    assert not any(isinstance(m, FusedBasicBlock | FusedBottleneck) for m in fuse_resnets(net).modules())
    fused = copy.deepcopy(net)
    for module in fused.modules():
        if type(module) is BasicBlock:
            module.__class__ = FusedBasicBlock
    x = maps(4, 3, 16, 16)
    assert torch.equal(fused(x), net(x))


def test_where_numba_would_have_threads_of_its_own_there_are_no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batchnorm_start, "_torch_has_the_openmp_that_numba_loads", lambda: False)
    assert kernels.__wrapped__() is None
