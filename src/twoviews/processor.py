"""What the processor can do, and in which layout of images it should."""

from __future__ import annotations

import torch

from twoviews.cpus import is_made_by_intel, onednn_may_use

# Asked once, as oneDNN does. A system that does not know AMX refuses it to a process. Intel's processors that have AMX
# multiply in bf16 without it at 0.6 times the rate of float32 (measured); its one kind with AVX512-BF16 alone, of few
# and large servers, is taken to be like them.
_IN_TILES = bool(onednn_may_use("amx_bf16") and torch.cpu._is_amx_tile_supported() and torch.cpu._init_amx())
_IN_BF16 = _IN_TILES or bool(
    onednn_may_use("avx512_bf16") and torch.cpu._is_avx512_bf16_supported() and not is_made_by_intel()
)


def multiplies_in_bf16() -> bool:
    """Whether the CPU multiplies in bf16 faster than in float32."""
    return _IN_BF16


def multiplies_in_tiles() -> bool:
    """Whether the CPU has AMX, and the system lets it: it multiplies bf16 some six times as fast as float32."""
    return _IN_TILES


def widest_vectors() -> str:
    """The widest vectors of float32 that torch computes with: ``AVX512``, ``AVX2`` or, elsewhere, another name."""
    return torch.backends.cpu.get_cpu_capability()


def image_layout(device: torch.device) -> torch.memory_format:
    """How images, and a network's kernels, should lie in memory: channels last, except on Apple's GPUs.

    There the backward pass of PyTorch's BatchNorm misread images that lie so: it ended with an error or, on older
    systems, with wrong gradients and no word (https://github.com/pytorch/pytorch/issues/175189).
    """
    return torch.contiguous_format if device.type == "mps" else torch.channels_last
