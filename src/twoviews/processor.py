"""What the processor can do."""

from __future__ import annotations

import torch


def multiplies_in_bf16() -> bool:
    """Whether the CPU has instructions for products in bf16; without them bf16 is slower than float32."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def has_avx2_at_most() -> bool:
    """Whether the CPU is an x86 one whose widest vectors are AVX2's."""
    return torch.backends.cpu.get_cpu_capability() == "AVX2"
