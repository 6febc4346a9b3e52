"""What the processor can do, and in which layout of images it should."""

from __future__ import annotations

import torch

from twoviews.cpus import gains_by_bf16, onednn_may_use


def _finds(*names: str) -> bool:
    """What torch finds of the processor; no where a version no longer has one of these private functions."""
    return all(bool(getattr(torch.cpu, name, bool)()) for name in names)


# Asked once, as oneDNN does; torch's compiler takes them as they are. A system that does not know AMX refuses it to a
# process.
_IN_TILES = onednn_may_use("amx_bf16") and _finds("_is_amx_tile_supported", "_init_amx")
_IN_BF16 = gains_by_bf16(onednn_may_use("avx512_bf16") and _finds("_is_avx512_bf16_supported"), _IN_TILES)
_VECTORS = torch.backends.cpu.get_cpu_capability()


def multiplies_in_bf16() -> bool:
    """Whether the CPU multiplies in bf16 faster than in float32."""
    return _IN_BF16


def multiplies_in_tiles() -> bool:
    """Whether the CPU has AMX, and the system lets it: it multiplies bf16 some six times as fast as float32."""
    return _IN_TILES


def widest_vectors() -> str:
    """The widest vectors of float32 that torch computes with: ``AVX512``, ``AVX2`` or, elsewhere, another name."""
    return _VECTORS


def image_layout(device: torch.device) -> torch.memory_format:
    """How images, and a network's kernels, should lie in memory: channels last, except on Apple's GPUs.

    There the backward pass of PyTorch's BatchNorm misread images that lie so: it ended with an error or, on older
    systems, with wrong gradients and no word (https://github.com/pytorch/pytorch/issues/175189).
    """
    return torch.contiguous_format if device.type == "mps" else torch.channels_last
