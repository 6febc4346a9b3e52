"""What the processor can do, and in which layout of images it should."""

from __future__ import annotations

import torch


def multiplies_in_bf16() -> bool:
    """Whether the CPU has instructions for products in bf16; without them bf16 is slower than float32."""
    return bool(torch.cpu._is_avx512_bf16_supported() or multiplies_in_tiles())


def multiplies_in_tiles() -> bool:
    """Whether the CPU has AMX, which multiplies bf16 some six times as fast as float32."""
    return bool(torch.cpu._is_amx_tile_supported())


def has_avx2_at_most() -> bool:
    """Whether the CPU is an x86 one whose widest vectors are AVX2's."""
    return torch.backends.cpu.get_cpu_capability() == "AVX2"


def image_layout(device: torch.device) -> torch.memory_format:
    """How images, and a network's kernels, should lie in memory: channels last, except on Apple's GPUs.

    There the backward pass of PyTorch's BatchNorm misread images that lie so: it ended with an error or, on older
    systems, with wrong gradients and no word (https://github.com/pytorch/pytorch/issues/175189).
    """
    return torch.contiguous_format if device.type == "mps" else torch.channels_last
