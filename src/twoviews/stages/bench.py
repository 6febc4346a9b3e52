"""How fast this machine is at SimCLR: the whole step, its views, its loss, its data. Nothing it writes stays."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from twoviews import disk
from twoviews.dataset.augmentations import views
from twoviews.dataset.batches import Batches
from twoviews.dataset.decode import FORMATS_TEXT
from twoviews.dataset.decode_cache import decoded_folder
from twoviews.dataset.images import ImageSet
from twoviews.dataset.random_numbers import epoch_order
from twoviews.dataset.scan import scan
from twoviews.dataset.splits import Splits
from twoviews.dataset.statistics import channel_statistics
from twoviews.errors import DataError, ResourceError, SettingsError
from twoviews.loss_functions.info_nce import info_nce
from twoviews.recipes import recipe_name, recipe_settings
from twoviews.settings import BenchCommand, PretrainCommand, RunSettings
from twoviews.spacing import evenly_spaced
from twoviews.stages.bench_step import step_speed
from twoviews.stages.bench_tables import header, table
from twoviews.stages.measure import PeakMemory, Rate, measure
from twoviews.stages.setup import Shared
from twoviews.trainers.engine import Engine
from twoviews.trainers.out_of_memory import is_out_of_memory
from twoviews.trainers.progress import say
from twoviews.trainers.steps import augmentation_of

Row = dict[str, Any]

MAX_IMAGES = 4096  # decoded or made: enough that batches are random reads, few enough for a minute
MAX_BYTES = 2**28
LOSS_ROWS = (512, 2048, 8192)


@dataclass(frozen=True)
class Images:
    """What is read: images in a memory map, what they are in words, and how they got there.

    ``decoded`` is the number of files and the seconds that they took, None where the images are random.
    """

    images: ImageSet
    text: str
    decoded: tuple[int, float] | None


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
    with _images(settings, training) as images:
        for what in wanted:
            if what == "step":
                yield what, [_step(settings, training, images, engine)]
            elif what == "augment":
                yield what, [_augment(training, images, engine)]
            elif what == "loss":
                yield what, list(_loss(settings, training, engine))
            else:
                yield what, list(_data(training, images, engine))


@contextmanager
def _images(settings: BenchCommand, training: PretrainCommand) -> Iterator[Images]:
    """Images of the folder, or random ones, in a memory map that is removed afterwards."""
    size = training.image_size
    count = max(training.batch_size, min(MAX_IMAGES, MAX_BYTES // (3 * size**2)))
    with tempfile.TemporaryDirectory(prefix="twoviews-bench-", ignore_cleanup_errors=True) as name:
        if settings.unlabeled is None:
            yield Images(_random_images(Path(name) / "random.npy", count, size), "random images", None)
        else:
            yield _decode(settings.unlabeled, Path(name), count, training)


def _random_images(file: Path, count: int, size: int) -> ImageSet:
    needed, free = count * 3 * size**2, disk.room(file.parent)
    if needed > free:  # a memory map that outgrows the disk would end the process
        raise ResourceError(
            f"{count:,} random images need {needed / 1e9:.2f} GB in {file.parent.parent}, {free / 1e9:.2f} GB are "
            "free: lower --batch-size, or name another folder with TMPDIR."
        )
    rng = np.random.default_rng(0)
    array = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=(count, 3, size, size))
    for image in array:
        image[:] = rng.integers(0, 256, image.shape, dtype=np.uint8)
    array.flush()
    del array
    stored = np.load(file, mmap_mode="r", allow_pickle=False)
    return ImageSet.whole(stored, None, [f"random {number}" for number in range(count)])


def _decode(folder: Path, cache: Path, count: int, training: PretrainCommand) -> Images:
    """Decode at most ``count`` files, evenly chosen, as pretraining would."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder: check --unlabeled.")
    found = scan(folder, boundary=folder, follow_links=False)
    found.files = [found.files[position] for position in evenly_spaced(len(found.files), count)]
    started = time.perf_counter()
    decoded = decoded_folder(
        found,
        "unlabeled",
        image_size=training.image_size,
        cache=cache,
        workers=None,
        max_pixels=training.max_pixels,
        progress=None,
    )
    seconds = time.perf_counter() - started
    if len(decoded.files) < 2:
        raise DataError(f"{folder} holds no two readable images ({FORMATS_TEXT}): check --unlabeled.")
    images = ImageSet.whole(decoded.pixels, None, decoded.files)
    return Images(images, f"{len(images):,} images of {folder}", (len(decoded.files), seconds))


def _figures(rate: Rate) -> Row:
    return {"images_per_second": rate.median, "spread": [rate.lowest, rate.highest], "rounds": rate.rounds}


def _sizes(training: PretrainCommand, images: Images) -> Row:
    return {
        "images": images.text,
        "image_size": training.image_size,
        "view_size": training.view_size or training.image_size,
        "batch_size": min(training.batch_size, len(images.images)),
    }


def _step(settings: BenchCommand, training: PretrainCommand, images: Images, engine: Engine) -> Row:
    empty = images.images.take(np.empty(0, dtype=np.int64))
    mean, std = channel_statistics(images.images)
    splits = Splits("bench", (), images.images, empty, empty, [], [], [], None, mean, std, None)
    speed = step_speed(training, Shared(engine, splits), settings.steps)
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


def _augment(training: PretrainCommand, images: Images, engine: Engine) -> Row:
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


def _data(training: PretrainCommand, images: Images, engine: Engine) -> Iterator[Row]:
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
