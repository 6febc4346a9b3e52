"""What ``twoviews bench`` prints on a terminal, from the rows that ``--json`` prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twoviews.stages.columns import aligned

Row = dict[str, Any]

_ADVICE = {
    "network": "smaller views or a smaller backbone help",
    "data": "more memory for the disk's cache, or a faster disk, helps",
    "augmentation": "smaller views help",
    "loss": "a smaller batch helps: the loss grows with its square",
    "optimizer": "a larger batch helps: weights are updated once a step",
}


def header(about: Row) -> str:
    """The machine in a line."""
    threads = f"{about['threads']} thread{'s' if about['threads'] > 1 else ''}"
    return f"{about['gpu'] or about['device']}, {threads}, {about['precision']}, torch {about['torch']}"


def table(what: str, rows: Sequence[Row]) -> str:
    """The rows of one measurement."""
    return {"step": _step, "augment": _augment, "loss": _loss, "data": _data}[what](rows)


def _indented(lines: Sequence[Sequence[str]]) -> list[str]:
    return [f"  {line}" for line in aligned(lines)]


def _number(value: float) -> str:
    """Three digits or more: 0.42, 8.31, 33.5, 7,412."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _range(row: Row) -> str:
    return "once" if row["spread"] is None else f"{_number(row['spread'][0])} to {_number(row['spread'][1])}"


def _bytes(value: int | None) -> str:
    return "not known" if value is None else f"{_number(value / 1e6)} MB"


def _step(rows: Sequence[Row]) -> str:
    (row,) = rows
    seconds: dict[str, float] = row["seconds"]
    total = sum(seconds.values())
    lines = [["", "ms a step", "share", "GFLOP/s"]]
    for piece, spent in seconds.items():
        rate = row["gflop_per_second"].get(piece)
        lines.append([piece, _number(1e3 * spent), f"{spent / total:.1%}", "" if rate is None else _number(rate)])
    lines.append(["one by one", _number(1e3 * total), "100.0%", ""])
    lines.append(["whole step", _number(1e3 * row["seconds_per_step"]), "", ""])
    product, width = _number(row["matrix_product_gflop_per_second"]), row["matrix_product_width"]
    fraction = f"{row['fraction_of_matrix_product_rate']:.0%}"
    share = (seconds["forward"] + seconds["backward"]) if row["bound_by"] == "network" else seconds[row["bound_by"]]
    speed = f" at {fraction} of the matrix-product rate" if row["bound_by"] == "network" else ""
    return "\n".join(
        [
            f"step: SimCLR with {row['backbone']}, {row['image_size']} px images, {row['view_size']} px views, "
            f"batch {row['batch_size']}, {row['images']}",
            f"  {_number(row['images_per_second'])} images/s ({_range(row)} in {row['rounds']} rounds of "
            f"{row['steps']} steps)",
            *_indented(lines),
            f"  {_number(row['gflop_per_image'])} GFLOP an image (two views, forward and backward)",
            f"  {product} GFLOP/s in a product of two {width}x{width} matrices: the step reaches {fraction} of it",
            f"  {_bytes(row['peak_memory_bytes'])} of memory for weights, optimizer and activations",
            f"  Bound by the {row['bound_by']}: {share / total:.0%} of the step{speed}; {_ADVICE[row['bound_by']]}.",
        ]
    )


def _augment(rows: Sequence[Row]) -> str:
    (row,) = rows
    a_thread = row["images_per_second_per_thread"]
    lines = [
        ["", "images/s", "a thread", "lowest to highest"],
        ["two views", _number(row["images_per_second"]), "-" if a_thread is None else _number(a_thread), _range(row)],
    ]
    sizes = f"{row['view_size']} px views of {row['image_size']} px images, batch {row['batch_size']}, {row['images']}"
    return "\n".join([f"augment: {sizes}", *_indented(lines)])


def _loss(rows: Sequence[Row]) -> str:
    lines = [["rows (2N)", "images/s", "ms a step", "peak memory", "lowest to highest"]]
    for row in rows:
        rate = row["images_per_second"]
        milliseconds = _number(1e3 * row["batch_size"] / rate)
        lines.append([f"{row['rows']:>9,}", _number(rate), milliseconds, _bytes(row["peak_memory_bytes"]), _range(row)])
    about = f"InfoNCE of {rows[0]['width']}-d projections, forward and backward, in {rows[0]['precision']}"
    return "\n".join([f"loss: {about}", *_indented(lines)])


def _data(rows: Sequence[Row]) -> str:
    names = {"decode": "files decoded", "gather": "random batches"}
    lines = [["", "images/s", "lowest to highest"]]
    lines += [[names[row["part"]], _number(row["images_per_second"]), _range(row)] for row in rows]
    row = rows[-1]
    return "\n".join(
        [
            f"data: {row['images']} at {row['image_size']} px, from a memory map, batch {row['batch_size']}",
            *_indented(lines),
        ]
    )
