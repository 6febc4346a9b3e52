"""The section of augmented views: the pictures that the run left, and words that follow from its settings."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from twoviews.files import append_json_line, write_json
from twoviews.report.page import template
from twoviews.report.run import load
from twoviews.report.views.section import ViewSection, strength, view_section

AUGMENTATION = {
    "view_size": 8,
    "crop_scale": [0.2, 1.0],
    "crop_ratio": [0.75, 1.3333],
    "flip": 0.5,
    "jitter": 0.8,
    "brightness": 0.4,
    "contrast": 0.4,
    "saturation": 0.4,
    "hue": 0.1,
    "grayscale": 0.2,
    "blur": 0.5,
    "blur_sigma": [0.1, 2.0],
}
SIZES = [12, 8, 8, 8, 8, 10, 10, 12, 12]


def write_run(folder: Path, sizes: list[int] = SIZES, files: tuple[str, ...] = ("a.jpg", "<i>b</i>.jpg")) -> Any:
    """A pretraining run's folder; returns the pixels of its sheet."""
    pretrain = folder / "pretrain"
    (pretrain / "logs").mkdir(parents=True)
    append_json_line(pretrain / "metrics.jsonl", {"epoch": 1, "step": 3, "lr": 0.1, "loss": 2.0})
    cell = max(sizes)
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (len(files) * cell, len(sizes) * cell, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(pretrain / "views.webp", lossless=True)
    Image.fromarray(pixels).save(pretrain / "logs" / "views.png")
    views = [{"epoch": 1 + i // 2, "view": 1 + i % 2, "view_size": size} for i, size in enumerate(sizes[1:])]
    write_json(
        pretrain / "views.json",
        {
            "files": files,
            "columns": len(sizes),
            "cell": cell,
            "sizes": sizes,
            "image_size": sizes[0],
            "views": views,
            "trained_epochs": 4,
            "last_view_size": 16,
            "augmentation": AUGMENTATION,
        },
    )
    return pixels


def section_of(folder: Path) -> ViewSection:
    found = view_section(load(folder))
    assert found is not None
    return found


def pixels_of(uri: str) -> Any:
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])), formats=["WEBP"]) as image:
        return np.asarray(image.convert("RGB"))


def test_pictures_are_the_sheet_s_at_their_own_size(tmp_path: Path) -> None:
    sheet = write_run(tmp_path / "run")
    section = section_of(tmp_path / "run")
    assert [one.file for one in section.images] == ["a.jpg", "<i>b</i>.jpg"]
    for line, one in enumerate(section.images):
        for column, (uri, size) in enumerate(zip([one.original, *one.views], SIZES, strict=True)):
            y, x = 12 * line, 12 * column
            assert np.array_equal(pixels_of(uri), sheet[y : y + size, x : x + size])
    assert section.is_small
    assert "one pair for each of the first four epochs" in section.read
    page = template("views/section.html.j2").render(views=section)
    assert page.count("<img") == 18
    assert page.count('alt=""') == 16  # their group says what they are
    assert 'alt="The image a.jpg"' in page
    assert "<i>b" not in page


def test_large_pictures_are_smooth_and_what_was_made_smaller_is_said(tmp_path: Path) -> None:
    write_run(tmp_path / "run", sizes=[80] * 9)
    about = json.loads((tmp_path / "run/pretrain/views.json").read_text())
    about |= {"image_size": 224, "trained_epochs": 1}
    write_json(tmp_path / "run/pretrain/views.json", about)
    section = section_of(tmp_path / "run")
    assert not section.is_small
    assert "Larger pictures are shown at 80 pixels." in section.read
    assert "This training has one epoch; the pairs beyond are drawn as further epochs would draw them." in section.read


def test_strength_follows_from_the_settings() -> None:
    assert strength({"augmentation": AUGMENTATION, "last_view_size": 16}) == (
        "A crop keeps 20 to 100% of the image’s area, and is resized to 8 pixels in the first epoch, 16 in the last;"
        " 50% are mirrored. Of the views 80% have their colours moved (brightness, contrast and saturation by"
        " up to 40% and hue by up to 36° of the colour circle), 20% lose their colour and 50% are blurred (sigma 0.1 to"
        " 2 pixels)."
    )
    mild = {**AUGMENTATION, "crop_scale": [1.0, 1.0], "flip": 0.0, "jitter": 0.0, "grayscale": 0.0, "blur": 0.0}
    assert strength({"augmentation": mild, "last_view_size": 8}) == (
        "A crop keeps 100% of the image’s area, and is resized to 8 pixels. Colours and sharpness stay as they are."
    )
    uneven = {**AUGMENTATION, "contrast": 0.0, "saturation": 0.2, "hue": 0.0, "grayscale": 0.0, "blur": 0.0}
    assert "colours moved (brightness by up to 40% and saturation by up to 20%)." in strength({"augmentation": uneven})
    assert strength({}) == ""


@pytest.mark.parametrize("damage", ["missing", "json", "webp", "sizes"])
def test_older_and_damaged_runs_show_their_strip(tmp_path: Path, damage: str) -> None:
    write_run(tmp_path / "run")
    pretrain = tmp_path / "run" / "pretrain"
    if damage == "missing":
        (pretrain / "views.json").unlink()
    elif damage == "json":
        (pretrain / "views.json").write_text("[1, 2]")
    elif damage == "webp":
        (pretrain / "views.webp").write_bytes(b"RIFF")
    else:
        about = json.loads((pretrain / "views.json").read_text())
        write_json(pretrain / "views.json", {**about, "sizes": [12, 99]})
    run = load(tmp_path / "run")
    section = view_section(run)
    assert section is not None
    assert section.images == []
    assert section.strip is not None
    assert bool(run.problems) == (damage != "missing")
    assert "views.png" not in template("views/section.html.j2").render(views=section)
    (pretrain / "logs" / "views.png").unlink()
    assert view_section(load(tmp_path / "run")) is None
