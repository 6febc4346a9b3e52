"""Random numbers without state: pure functions of (seed, epoch, image, ...), the same on every device.

A generator has a state that a resume must restore and that a second process can't share. A hash has none: the
numbers for one image in one epoch are the same on a CPU and a GPU, on one process or eight, before and after a
restart. The mixing step is SplitMix64's finaliser (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
generators", figure 16), in int64 arithmetic that wraps around.
"""

from __future__ import annotations

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_MULTIPLY_1 = 0xBF58476D1CE4E5B9 - 2**64
_MULTIPLY_2 = 0x94D049BB133111EB - 2**64


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64 (torch's is arithmetic)."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift_right(x, 30)) * _MULTIPLY_1
    x = (x ^ _shift_right(x, 27)) * _MULTIPLY_2
    return x ^ _shift_right(x, 31)


def _mix_number(x: int) -> int:
    """``_mix`` of one number, by Python: on a GPU each of its operations would be a kernel."""
    x %= 2**64
    x = (x ^ x >> 30) * _MULTIPLY_1 % 2**64
    x = (x ^ x >> 27) * _MULTIPLY_2 % 2**64
    x ^= x >> 31
    return x if x < 2**63 else x - 2**64


def random_bits(*keys: int | Tensor) -> Tensor:
    """64 random bits as int64 for each combination of keys; tensor keys (int64) broadcast against each other."""
    state: int | Tensor = 0
    for key in keys:
        joined: int | Tensor = state ^ key
        state = _mix(joined + _GOLDEN) if isinstance(joined, Tensor) else _mix_number(int(joined) + _GOLDEN)
    return state if isinstance(state, Tensor) else torch.tensor(state, dtype=torch.int64)


def uniforms(*keys: int | Tensor, count: int) -> Tensor:
    """``count`` independent numbers in [0, 1) for each combination of keys.

    Returns:
        (..., count) float32, multiples of 2⁻²⁴.
    """
    state = random_bits(*keys)
    slots = torch.arange(count, dtype=torch.int64, device=state.device)
    bits = random_bits(state.unsqueeze(-1), slots)
    return _shift_right(bits, 40).to(torch.float32) * 2.0**-24


def epoch_order(seed: int, epoch: int, length: int, device: torch.device | str = "cpu") -> Tensor:
    """A permutation of range(length), different in each epoch: int64 (length,)."""
    positions = torch.arange(length, dtype=torch.int64, device=device)
    return torch.argsort(random_bits(seed, epoch, positions), stable=True)
