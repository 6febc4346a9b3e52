"""The pictures of views are those that training draws, and training ends the same without them."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from small_tasks import EPOCHS, SEED, SIZE, engine, images, run_folder, simclr
from torch import Tensor, nn

from twoviews.dataset.images import ImageSet
from twoviews.files import append_json_line
from twoviews.report.run import load
from twoviews.report.views.section import view_section
from twoviews.settings import PretrainCommand
from twoviews.spacing import evenly_spaced
from twoviews.stages.view_files import MOST_SIDE, SHOWN_IMAGES, draw_views, write_views
from twoviews.trainers.steps import Batch, SimCLRStep
from twoviews.trainers.train import train
from twoviews.trainers.validate import Normalisation

Seen = dict[tuple[int, int], Any]  # epoch and row of an image → its two views


def settings(**changes: Any) -> PretrainCommand:
    given = {"epochs": EPOCHS, "batch_size": 4, "warmup_epochs": 1, "seed": SEED, "first_view_size": 8, **changes}
    return PretrainCommand(**{"view_size": SIZE, **given})


def keeping(step: SimCLRStep, seen: Seen) -> Any:
    """The step, which also keeps what the network is given."""

    def wrapped(module: nn.Module, batch: Batch) -> Any:
        def network(views: Tensor) -> Tensor:
            pairs = (views * 255).round().to(torch.uint8).permute(0, 2, 3, 1).unflatten(0, (2, -1))
            for row, pair in zip(batch.rows.tolist(), pairs.unbind(1), strict=True):
                seen[batch.epoch, row] = pair.numpy().copy()
            projections: Tensor = module(views)
            return projections

        return step.contrast(step.project(network, batch))  # type: ignore[arg-type]

    return wrapped


def trained(path: Path, given: PretrainCommand, seen: Seen, draw: bool) -> dict[str, Tensor]:
    """The final weights of a small training whose views are kept, and whose pictures may be written first."""
    on, run = engine(), run_folder(path)
    task = simclr(given, on)
    assert isinstance(task.step, SimCLRStep)
    task.step = keeping(replace(task.step, normalisation=Normalisation((0.0,) * 3, (1.0,) * 3)), seen)
    if draw:
        write_views(run, images(labelled=False), given)
    train(task, given, on, run, seed=SEED)
    return task.module.state_dict()


def test_views_shown_are_the_ones_that_the_network_is_given_and_change_nothing(tmp_path: Path) -> None:
    given, seen = settings(epochs=2, view_size=12, first_view_size=8), {}
    plain, with_pictures = (trained(tmp_path / str(draw), given, seen, draw) for draw in (False, True))
    assert plain.keys() == with_pictures.keys()
    assert all(torch.equal(plain[key], with_pictures[key]) for key in plain)
    drawn = draw_views(images(labelled=False), given, SEED)
    assert drawn.trained_epochs == 2
    found = 0
    for epoch in range(2):
        for i, name in enumerate(drawn.files):
            # Two images of each epoch are left over after the last whole batch.
            if (epoch, int(name)) in seen:
                assert np.array_equal(drawn.views[epoch][i], seen[epoch, int(name)])
                found += 1
    assert found >= 2 * (SHOWN_IMAGES - 2)
    other = draw_views(images(labelled=False), given, SEED + 1)
    assert not np.array_equal(other.views[0], drawn.views[0])


def test_drawing_takes_no_random_number_from_anyone(tmp_path: Path) -> None:
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    write_views(run_folder(tmp_path), images(labelled=False), settings())
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]


def test_small_pictures_keep_every_pixel_and_a_second_start_writes_the_same(tmp_path: Path) -> None:
    run, given = run_folder(tmp_path), settings(epochs=2, view_size=16)
    write_views(run, images(labelled=False), given)
    first = {path: path.read_bytes() for path in tmp_path.rglob("views.*")}
    assert {path.relative_to(tmp_path).as_posix() for path in first} == {"views.webp", "views.json", "logs/views.png"}
    about = json.loads((tmp_path / "views.json").read_text())
    drawn = draw_views(images(labelled=False), given, SEED)
    assert about["files"] == [str(i) for i in evenly_spaced(18, SHOWN_IMAGES)]
    assert about["trained_epochs"] == 2
    # Two epochs: the first with small views, the last with large ones, as any after it would have.
    assert about["sizes"] == [8, 8, 8, 16, 16, 16, 16, 16, 16]
    assert [(one["epoch"], one["view"]) for one in about["views"][:3]] == [(1, 1), (1, 2), (2, 1)]
    with Image.open(tmp_path / "views.webp") as image:
        sheet = np.asarray(image.convert("RGB"))
    cell = about["cell"]
    assert sheet.shape == (8 * cell, 9 * cell, 3)
    for i in range(8):
        line = sheet[i * cell : (i + 1) * cell]
        assert np.array_equal(line[:8, :8], drawn.originals[i])
        for epoch, view in ((0, 0), (0, 1), (3, 1)):
            column, size = 1 + 2 * epoch + view, drawn.views[epoch].shape[2]
            assert np.array_equal(line[:size, column * cell : column * cell + size], drawn.views[epoch][i, view])
    write_views(run, images(labelled=False), given)
    assert {path: path.read_bytes() for path in first} == first


def test_the_page_reads_what_the_stage_writes(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "pretrain")
    write_views(run, images(labelled=False), settings())
    append_json_line(run.metrics, {"epoch": 1, "loss": 1.0})
    section = view_section(load(tmp_path))
    assert section is not None
    assert [one.file for one in section.images] == draw_views(images(labelled=False), settings(), SEED).files
    assert {len(one.views) for one in section.images} == {8}
    assert section.strength.startswith("A crop keeps 8 to 100% of the image’s area, and is resized to 8 pixels;")


def test_large_and_few_images(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 200, 200)).astype(np.uint8)
    given = settings(view_size=176, first_view_size=None)
    write_views(run_folder(tmp_path), ImageSet.whole(pixels, None, ["a", "b", "c"]), given)
    about = json.loads((tmp_path / "views.json").read_text())
    assert about["files"] == ["a", "b", "c"]
    assert about["sizes"] == [MOST_SIDE] * 9
    assert {one["view_size"] for one in about["views"]} == {176}
    with Image.open(tmp_path / "views.webp") as image:
        assert image.size == (9 * MOST_SIDE, 3 * MOST_SIDE)
