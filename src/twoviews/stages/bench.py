"""How fast this machine is at SimCLR: the whole step, its views, its loss, its data. Nothing it writes stays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from twoviews.dataset.augmentations import views
from twoviews.dataset.batches import Batches
from twoviews.dataset.random_numbers import epoch_order
from twoviews.dataset.splits import Splits
from twoviews.dataset.statistics import channel_statistics
from twoviews.errors import ResourceError, SettingsError
from twoviews.loss_functions.info_nce import info_nce
from twoviews.recipes import recipe_name, recipe_settings
from twoviews.settings import BenchCommand, PretrainCommand, RunSettings
from twoviews.stages.bench_images import BenchImages, bench_images
from twoviews.stages.bench_step import step_speed
from twoviews.stages.bench_tables import header, table
from twoviews.stages.measure import PeakMemory, Rate, measure
from twoviews.stages.setup import Shared
from twoviews.trainers.engine import Engine
from twoviews.trainers.heap import freed_memory_kept
from twoviews.trainers.out_of_memory import is_out_of_memory
from twoviews.trainers.progress import duration, say
from twoviews.trainers.steps import augmentation_of

Row = dict[str, Any]

LOSS_ROWS = (512, 2048, 8192)
SILENCE = 30.0  # seconds of measuring that are announced


def run_bench(settings: BenchCommand) -> list[Row]:
    """Measure and print; returns the rows that ``--json`` prints.

    Raises:
        SettingsError: the backbone is unknown or can't take views of this size.
        DataError: the folder holds no image that can be read.
        ResourceError: the batch does not fit into memory.
    """
    engine = Engine(RunSettings(device=settings.device, precision=settings.precision, threads=settings.threads))
    if engine.world_size > 1:
        raise SettingsError("bench measures one process: start it without torchrun.")
    training = _training(settings, engine)
    wanted = ("step", "augment", "loss", "data") if settings.what == "all" else (settings.what,)
    about = engine.describe() | {"torch": torch.__version__}
    if not settings.json:
        say(header(about))
    rows: list[Row] = []
    try:
        with freed_memory_kept():
            for what, measured in _measurements(wanted, settings, training, engine):
                new = [{"what": what, **about, **row} for row in measured]
                say("\n".join(map(json.dumps, new)) if settings.json else f"\n{table(what, new)}")
                rows += new
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error, surely=True):
            raise
        raise ResourceError(
            f"a batch of {training.batch_size} does not fit into memory: lower --batch-size."
        ) from error
    return rows


def _training(settings: BenchCommand, engine: Engine) -> PretrainCommand:
    """How pretraining would run: what was asked for over the recipe of a folder on this kind of machine."""
    recipe = recipe_settings(recipe_name("folder", lambda: engine.device.type == "cuda"), "pretrain")
    asked = {key: getattr(settings, key) for key in ("backbone", "stem", "image_size", "batch_size", "view_size")}
    values = {key: recipe[key] for key in ("backbone", "image_size")}
    values |= {key: value for key, value in asked.items() if value is not None}
    same = {key: getattr(settings, key) for key in ("device", "precision", "cuda_graphs", "torch_compile")}
    return PretrainCommand.model_validate({**values, **same})


def _measurements(
    wanted: tuple[str, ...], settings: BenchCommand, training: PretrainCommand, engine: Engine
) -> Iterator[tuple[str, list[Row]]]:
    """Name and rows of each measurement, as they are made."""
    if wanted == ("loss",):
        yield "loss", list(_loss(settings, training, engine))
        return
    with bench_images(settings.unlabeled, training) as images:
        for what in wanted:
            if what == "step":
                yield what, [_step(settings, training, images, engine)]
            elif what == "augment":
                yield what, [_augment(training, images, engine)]
            elif what == "loss":
                yield what, list(_loss(settings, training, engine))
            else:
                yield what, list(_data(training, images, engine))


def _figures(rate: Rate) -> Row:
    return {"images_per_second": rate.median, "spread": [rate.lowest, rate.highest], "rounds": rate.rounds}


def _sizes(training: PretrainCommand, images: BenchImages) -> Row:
    return {
        "images": images.text,
        "image_size": training.image_size,
        "view_size": training.view_size or training.image_size,
        "batch_size": min(training.batch_size, len(images.images)),
    }


def _step(settings: BenchCommand, training: PretrainCommand, images: BenchImages, engine: Engine) -> Row:
    empty = images.images.take(np.empty(0, dtype=np.int64))
    mean, std = channel_statistics(images.images)
    splits = Splits(name="bench", class_names=(), unlabeled=images.images, train=empty, val=empty, mean=mean, std=std)

    def announce(a_step: float, all_steps: float) -> None:
        if all_steps > SILENCE and not settings.json:
            say(f"step: {a_step:.1f} s a step, so about {duration(all_steps)}; --steps 1 takes the fewest.")

    speed = step_speed(training, Shared(engine, splits), settings.steps, announce)
    return {
        **_figures(speed.rate),
        "backbone": training.backbone,
        **_sizes(training, images),
        "steps": speed.rate.calls,
        "seconds_per_step": speed.batch_size / speed.rate.median,
        "seconds": speed.seconds,
        "gflop_per_image": speed.flop_per_image / 1e9,
        "gflop_per_second": {piece: speed.gflop_per_second(piece) for piece in ("forward", "backward")},
        "matrix_product_gflop_per_second": speed.product_rate / 1e9,
        "matrix_product_width": speed.product_width,
        "fraction_of_matrix_product_rate": speed.fraction_of_product_rate,
        "bound_by": speed.bound_by,
        "peak_memory_bytes": speed.peak_memory,
    }


def _augment(training: PretrainCommand, images: BenchImages, engine: Engine) -> Row:
    sizes = _sizes(training, images)
    pixels, rows, _ = Batches(images.images, engine.device).get(torch.arange(sizes["batch_size"]))
    augmentation = augmentation_of(training, training.image_size)
    rate = measure(lambda n: views(pixels, rows, augmentation, seed=0, epoch=n), len(rows), engine)
    on_cpu = engine.device.type == "cpu"
    a_thread = rate.median / engine.threads if on_cpu else None
    return {**_figures(rate), "images_per_second_per_thread": a_thread, **sizes}


def _loss(settings: BenchCommand, training: PretrainCommand, engine: Engine) -> Iterator[Row]:
    """InfoNCE and its gradient; the smallest first, since memory that was freed hides what is used again."""
    for rows in LOSS_ROWS if settings.batch_size is None else (2 * settings.batch_size,):
        z = torch.randn(rows, training.projection_width, device=engine.device, requires_grad=True)

        def loss_and_gradient(number: int, z: torch.Tensor = z) -> None:
            z.grad = None
            info_nce(z, training.temperature)[0].backward()

        memory = PeakMemory(engine)
        loss_and_gradient(0)
        peak = memory.rise()
        rate = measure(loss_and_gradient, rows // 2, engine)
        yield {
            **_figures(rate),
            "batch_size": rows // 2,
            "rows": rows,
            "width": training.projection_width,
            "precision": "float32",
            "peak_memory_bytes": peak,
        }


def _data(training: PretrainCommand, images: BenchImages, engine: Engine) -> Iterator[Row]:
    """Decoding, where there are files, and random batches from the memory map, both on the processor."""
    sizes = {key: value for key, value in _sizes(training, images).items() if key != "view_size"}
    if images.decoded is not None:
        count, seconds = images.decoded
        about = {**sizes, "batch_size": None, "files": count, "seconds": seconds}
        yield {"part": "decode", "images_per_second": count / seconds, "spread": None, "rounds": 1, **about}
    batches = Batches(images.images, torch.device("cpu"))
    order = epoch_order(0, 0, len(batches)).split(sizes["batch_size"])
    order = order[: len(batches) // sizes["batch_size"]]
    rate = measure(lambda n: batches.get(order[n % len(order)]), sizes["batch_size"], engine)
    yield {"part": "gather", **_figures(rate), **sizes}
