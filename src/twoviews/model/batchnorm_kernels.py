"""BatchNorm, an addition and ReLU on a CPU, in as few passes over memory as they can take; compiled by numba.

Of x, the values before BatchNorm (Ioffe & Szegedy 2015, algorithm 1), a step needs four passes: one for its moments,
one that normalises, adds and cuts off, and backward one for the sums and one for the gradient. PyTorch's operations
take about twice as many, one at a time.

Maps are rows×width, contiguous, float32, or uint16 that hold bf16: the last dimension runs over channels, over all of
them once or several times (``_shape``). What belongs to channels is float32. Sums are of pieces of the rows, then of
the pieces, in float64: their order depends on the shape alone, not on the threads.

``forward``, ``evaluated`` and ``backward`` are given addresses: to make arrays of a dozen tensors took longer than the
work on a small map. ``kind`` says what is at those of maps. All is in one file, since what numba keeps on disk for a
function is taken as long as that function's own file is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import carray, prange, types
from numba.extending import intrinsic, overload

_PIECE = 1 << 16  # elements that are added up at a time: enough to be worth a thread's start
_MOST_PIECES = 128
_FIRST_ROWS = 16  # of a piece, whose mean its sums are taken from
_WIDTH = 256  # columns of a row at least, where the shape allows: several pixels of few channels, side by side

# No fastmath: what it allows the compiler makes use of in one way when it compiles a function and in another when the
# function comes from numba's cache as a part of its caller, and a resumed run would end with other last bits.
_OPTIONS = {"nogil": True, "error_model": "numpy"}
# Of what numba can make parallel, the loops that say so: to look for more costs seconds and finds none here.
_OTHERS = ("comprehension", "fusion", "inplace_binop", "numpy", "reduction", "setitem", "stencil")
_PARALLEL = {"parallel": {"prange": True, **dict.fromkeys(_OTHERS, False)}}


def _compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """numba.njit, with what it compiles kept on disk where there is a place for it."""

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(cache=True, **_OPTIONS, **options)(function)
        except RuntimeError:  # neither the package's folder nor the user's cache can be written
            return numba.njit(**_OPTIONS, **options)(function)

    return decorate


@intrinsic  # type: ignore[untyped-decorator]
def _float_of_bits(typing: Any, bits: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.uint32), code


@intrinsic  # type: ignore[untyped-decorator]
def _bits_of_float(typing: Any, number: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.uint32(types.float32), code


@intrinsic  # type: ignore[untyped-decorator]
def _pointer(typing: Any, address: Any, kind: Any) -> Any:
    pointer = types.CPointer(kind)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(pointer))

    return pointer(address, kind), code


def _load(array: Any, row: int, column: int) -> Any:
    """One element as float32."""
    raise NotImplementedError


def _store(array: Any, row: int, column: int, value: Any) -> None:
    """Set one element, rounded to the nearest, half-way cases to even."""
    raise NotImplementedError


@overload(_load, inline="always")  # type: ignore[untyped-decorator]
def _load_by_kind(array: Any, row: Any, column: Any) -> Any:
    def as_it_is(array: Any, row: Any, column: Any) -> Any:
        return array[row, column]

    def widened(array: Any, row: Any, column: Any) -> Any:
        return _float_of_bits(np.uint32(array[row, column]) << np.uint32(16))

    return widened if array.dtype == types.uint16 else as_it_is


@overload(_store, inline="always")  # type: ignore[untyped-decorator]
def _store_by_kind(array: Any, row: Any, column: Any, value: Any) -> Any:
    def as_it_is(array: Any, row: Any, column: Any, value: Any) -> Any:
        array[row, column] = value

    def rounded(array: Any, row: Any, column: Any, value: Any) -> Any:
        bits = _bits_of_float(value)
        even = (bits >> np.uint32(16)) & np.uint32(1)
        kept = np.uint16((bits + np.uint32(0x7FFF) + even) >> np.uint32(16))
        array[row, column] = kept if value == value else np.uint16(0x7FC0)  # rounding could make NaN infinite

    return rounded if array.dtype == types.uint16 else as_it_is


@_compiled()
def _shape(pixels: int, channels: int) -> tuple[int, int]:
    """Rows and their width, of a map of so many pixels."""
    together = 1
    while together * channels < _WIDTH and pixels % (2 * together) == 0:
        together *= 2
    return pixels // together, together * channels


@_compiled()
def _array(kind: Any, address: int, rows: int, width: int) -> Any:
    return carray(_pointer(address, kind), (rows, width))


@_compiled()
def _channels(address: int, channels: int) -> Any:
    return _array(np.float32(0), address, 1, channels)[0]


@_compiled()
def _pieces(rows: int, width: int) -> int:
    return min(_MOST_PIECES, max(1, rows * width // _PIECE))


@_compiled()
def _total(sums: Any, channels: int) -> Any:
    """pieces×2×width → 2×C in float64."""
    width = sums.shape[2]
    total = np.zeros((2, width), np.float64)
    for p in range(len(sums)):
        for i in range(2):
            for j in range(width):
                total[i, j] += sums[p, i, j]
    for i in range(2):
        for j in range(channels, width):
            total[i, j % channels] += total[i, j]
    return total[:, :channels]


@_compiled()
def _line(weight: Any, bias: Any, mean: Any, inverse: Any, width: int) -> Any:
    """BatchNorm as scale·x + shift, for each of ``width`` columns: 2×width."""
    line = np.empty((2, width), np.float32)
    for j in range(width):
        c = j % len(weight)
        line[0, j] = weight[c] * inverse[c]
        line[1, j] = bias[c] - mean[c] * line[0, j]
    return line


@_compiled()
def _add_up(x: Any, first: int, last: int, origin: Any, sums: Any) -> None:
    """Sums of one piece beyond ``origin``, which becomes the mean of its first rows."""
    few = min(last, first + _FIRST_ROWS)
    for j in range(len(origin)):
        origin[j] = 0
        sums[0, j] = 0
        sums[1, j] = 0
    for r in range(first, few):
        for j in range(len(origin)):
            origin[j] += _load(x, r, j) / np.float32(few - first)
    for r in range(first, last):
        for j in range(len(origin)):
            away = _load(x, r, j) - origin[j]
            sums[0, j] += away
            sums[1, j] += away * away


@_compiled(**_PARALLEL)
def _moments(x: Any, mean: Any, variance: Any) -> None:
    """Mean and variance (of the batch, not the unbiased one) of each channel, to ``mean`` and ``variance``.

    Squares are of what lies beyond a mean of some rows nearby, so that a mean far from zero takes no digits from them;
    the pieces' moments are joined as in Chan, Golub & LeVeque 1983, section 2, in float64.
    """
    rows, width = x.shape
    channels = len(mean)
    pieces = _pieces(rows, width)
    origins = np.empty((pieces, width), np.float32)
    sums = np.empty((pieces, 2, width), np.float32)
    for p in prange(pieces):
        _add_up(x, rows * p // pieces, rows * (p + 1) // pieces, origins[p], sums[p])
    means, squares = np.zeros(channels, np.float64), np.zeros(channels, np.float64)
    for p in range(pieces):
        count = rows * (p + 1) // pieces - rows * p // pieces
        for start in range(0, width, channels):
            for c in range(channels):
                means[c] += count * np.float64(origins[p, start + c]) + sums[p, 0, start + c]
    count_all = rows * width // channels
    for c in range(channels):
        means[c] /= count_all
    for p in range(pieces):
        count = rows * (p + 1) // pieces - rows * p // pieces
        for start in range(0, width, channels):
            for c in range(channels):
                away = np.float64(sums[p, 0, start + c])
                off = origins[p, start + c] + away / count - means[c]
                squares[c] += sums[p, 1, start + c] - away * away / count + count * off * off
    for c in range(channels):
        mean[c] = means[c]
        spread = squares[c] / count_all
        variance[c] = 0.0 if spread < 0 else spread


@_compiled()
def _normalise_piece(x: Any, addend: Any, first: int, last: int, line: Any, floor: float, y: Any) -> None:
    scale, shift = line[0], line[1]
    for r in range(first, last):
        for j in range(len(scale)):
            value = scale[j] * _load(x, r, j) + shift[j]
            if addend is not None:
                value += _load(addend, r, j)
            _store(y, r, j, floor if value < floor else value)


@_compiled(**_PARALLEL)
def _normalise(x: Any, addend: Any, weight: Any, bias: Any, mean: Any, inverse: Any, floor: float, y: Any) -> None:
    """y = max(floor, weight·(x − mean)·inverse + bias + addend); ``addend`` rows×width or None."""
    rows, width = x.shape
    pieces = _pieces(rows, width)
    line = _line(weight, bias, mean, inverse, width)
    for p in prange(pieces):
        _normalise_piece(x, addend, rows * p // pieces, rows * (p + 1) // pieces, line, floor, y)


@_compiled()
def _add_up_gradients(
    x: Any, upstream: Any, second: Any, y: Any, first: int, last: int, line: Any, centre: Any, floor: float,
    passed: Any, sums: Any,
) -> None:  # fmt: skip
    scale, shift = line[0], line[1]
    for j in range(len(scale)):
        sums[0, j] = 0
        sums[1, j] = 0
    for r in range(first, last):
        for j in range(len(scale)):
            value, gradient = _load(x, r, j), _load(upstream, r, j)
            if second is not None:
                gradient += _load(second, r, j)
            if y is not None:
                gradient = np.float32(0.0) if _load(y, r, j) <= floor else gradient
                _store(passed, r, j, gradient)
            else:
                gradient = np.float32(0.0) if scale[j] * value + shift[j] <= floor else gradient
            sums[0, j] += gradient
            sums[1, j] += gradient * (value - centre[j])


@_compiled(**_PARALLEL)
def _gradient_sums(
    x: Any, upstream: Any, second: Any, y: Any, weight: Any, bias: Any, mean: Any, inverse: Any, floor: float,
    passed: Any, for_weight: Any, for_bias: Any,
) -> None:  # fmt: skip
    """Gradients of ``weight`` and ``bias``, where that of the output is ``upstream``, or the sum of it and ``second``.

    With an addend, ``y`` is the output, and ``passed`` receives what ReLU lets through: the addend's gradient. Without,
    both are None, and what ReLU let through is computed from x anew.
    """
    rows, width = x.shape
    pieces = _pieces(rows, width)
    line = _line(weight, bias, mean, inverse, width)
    centre = np.empty(width, np.float32)
    for j in range(width):
        centre[j] = mean[j % len(mean)]
    sums = np.empty((pieces, 2, width), np.float32)
    for p in prange(pieces):
        first, last = rows * p // pieces, rows * (p + 1) // pieces
        _add_up_gradients(x, upstream, second, y, first, last, line, centre, floor, passed, sums[p])
    total = _total(sums, len(mean))
    for c in range(len(mean)):
        for_bias[c] = total[0, c]
        for_weight[c] = total[1, c] * inverse[c]


@_compiled()
def _send_back(
    x: Any, upstream: Any, second: Any, first: int, last: int, line: Any, slope: Any, constant: Any, floor: float,
    for_x: Any,
) -> None:  # fmt: skip
    scale, shift = line[0], line[1]
    for r in range(first, last):
        for j in range(len(scale)):
            value = _load(x, r, j)
            gradient = _load(upstream, r, j)
            if second is not None:
                gradient += _load(second, r, j)
            gradient = np.float32(0.0) if scale[j] * value + shift[j] <= floor else gradient
            _store(for_x, r, j, scale[j] * gradient + slope[j] * value + constant[j])


@_compiled(**_PARALLEL)
def _input_gradient(
    x: Any, upstream: Any, second: Any, weight: Any, bias: Any, mean: Any, inverse: Any, floor: float,
    for_weight: Any, for_bias: Any, for_x: Any,
) -> None:  # fmt: skip
    """Gradient of x, through the moments too, from the sums of ``_gradient_sums``."""
    rows, width = x.shape
    pieces = _pieces(rows, width)
    line = _line(weight, bias, mean, inverse, width)
    count = rows * width // len(mean)
    slope, constant = np.empty(width, np.float32), np.empty(width, np.float32)
    for j in range(width):
        c = j % len(mean)
        slope[j] = -line[0, j] * inverse[c] * for_weight[c] / count
        constant[j] = -line[0, j] * for_bias[c] / count - slope[j] * mean[c]
    for p in prange(pieces):
        first, last = rows * p // pieces, rows * (p + 1) // pieces
        _send_back(x, upstream, second, first, last, line, slope, constant, floor, for_x)


@_compiled()
def _invert(variance: Any, eps: float, inverse: Any) -> None:
    """The inverse of the standard deviation, to ``inverse``."""
    for c in range(len(variance)):
        inverse[c] = np.float32(1) / np.sqrt(variance[c] + np.float32(eps))


@_compiled()
def _finish(
    kind: Any, maps: Any, addend: int, y: int, weight: int, bias: int, mean: Any, inverse: Any, floor: float
) -> None:
    rows, width = maps.shape
    weights, biases = _channels(weight, len(mean)), _channels(bias, len(mean))
    out = _array(kind, y, rows, width)
    if addend:
        _normalise(maps, _array(kind, addend, rows, width), weights, biases, mean, inverse, floor, out)
    else:
        _normalise(maps, None, weights, biases, mean, inverse, floor, out)


@_compiled()
def forward(
    kind: Any, x: int, addend: int, y: int, pixels: int, channels: int, weight: int, bias: int, floor: float,
    eps: float, saved: int, share: float, running_mean: int, running_variance: int, batches: int,
) -> None:  # fmt: skip
    """y = max(floor, batchnorm(x) + addend) by the batch's moments, which the running ones follow.

    Args:
        kind: a number of the kind that maps are made of.
        x, addend, y: N×H×W×C; where there is no addend, 0.
        pixels: N·H·W.
        channels: C.
        weight, bias: C each.
        floor: 0 for ReLU, or −inf.
        eps: added to the variance.
        saved: 2×C, for the mean and the inverse of the standard deviation.
        share: of the new moments in the running ones; below 0 these stay.
        running_mean, running_variance: C each, float32; the variance is the unbiased one.
        batches: one int64, how many batches the running moments have seen.
    """
    maps = _array(kind, x, *_shape(pixels, channels))
    kept, variance = _array(np.float32(0), saved, 2, channels), np.empty(channels, np.float32)
    mean, inverse = kept[0], kept[1]
    _moments(maps, mean, variance)
    _invert(variance, eps, inverse)
    if share >= 0:
        part, unbiased = np.float32(share), np.float32(pixels / (pixels - 1))
        means, variances = _channels(running_mean, channels), _channels(running_variance, channels)
        for c in range(channels):
            means[c] += part * (mean[c] - means[c])
            variances[c] += part * (unbiased * variance[c] - variances[c])
        _array(np.int64(0), batches, 1, 1)[0, 0] += 1
    _finish(kind, maps, addend, y, weight, bias, mean, inverse, floor)


@_compiled()
def evaluated(
    kind: Any, x: int, addend: int, y: int, pixels: int, channels: int, weight: int, bias: int, floor: float,
    eps: float, running_mean: int, running_variance: int,
) -> None:  # fmt: skip
    """``forward`` by the running moments."""
    variance, inverse = _channels(running_variance, channels), np.empty(channels, np.float32)
    _invert(variance, eps, inverse)
    maps, mean = _array(kind, x, *_shape(pixels, channels)), _channels(running_mean, channels)
    _finish(kind, maps, addend, y, weight, bias, mean, inverse, floor)


@_compiled()
def backward(
    kind: Any, x: int, upstream: int, second: int, y: int, passed: int, pixels: int, channels: int, weight: int,
    bias: int, floor: float, saved: int, for_weight: int, for_bias: int, for_x: int,
) -> None:  # fmt: skip
    """Gradients of x, weight and bias, and of an addend to ``passed``, where the output's is upstream + second.

    Args as of ``forward``; where it had an addend ``y`` is its output, else ``y`` and ``passed`` are 0. ``second`` may
    be 0.
    """
    rows, width = _shape(pixels, channels)
    maps, up, out = _array(kind, x, rows, width), _array(kind, upstream, rows, width), _array(kind, for_x, rows, width)
    weights, biases = _channels(weight, channels), _channels(bias, channels)
    kept = _array(np.float32(0), saved, 2, channels)
    mean, inverse = kept[0], kept[1]
    dw, db = _channels(for_weight, channels), _channels(for_bias, channels)
    more = _array(kind, second, rows, width)  # not looked into where there is none
    if y:
        result, through = _array(kind, y, rows, width), _array(kind, passed, rows, width)
        if second:
            _gradient_sums(maps, up, more, result, weights, biases, mean, inverse, floor, through, dw, db)
        else:
            _gradient_sums(maps, up, None, result, weights, biases, mean, inverse, floor, through, dw, db)
        # There lies the sum of both, and ReLU has been through.
        _input_gradient(maps, through, None, weights, biases, mean, inverse, np.float32(-np.inf), dw, db, out)
    elif second:
        _gradient_sums(maps, up, more, None, weights, biases, mean, inverse, floor, None, dw, db)
        _input_gradient(maps, up, more, weights, biases, mean, inverse, floor, dw, db, out)
    else:
        _gradient_sums(maps, up, None, None, weights, biases, mean, inverse, floor, None, dw, db)
        _input_gradient(maps, up, None, weights, biases, mean, inverse, floor, dw, db, out)
