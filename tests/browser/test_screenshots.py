"""The script that takes the pictures of README and docs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fixture_explore import add_explorable
from fixture_study import write_study
from PIL import Image

TOOLS = Path(__file__).parents[2] / "tools"
sys.path.insert(0, str(TOOLS))

import screenshots  # noqa: E402


def noise(side: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8))


def test_pictures_are_made_small_enough_and_keep_their_colours(tmp_path):
    drawn = Image.new("RGB", (800, 600), "#fbfbfa")
    drawn.paste("#bd1f01", (100, 100, 110, 110))
    content = screenshots.compressed(drawn)
    assert len(content) < 5_000
    np.testing.assert_array_equal(screenshots.opened(content), drawn)
    # What can't be packed loses pixels.
    content = screenshots.compressed(noise(120), 9_000)
    assert len(content) <= 9_000
    assert 70 <= screenshots.opened(content).width < 120
    with pytest.raises(ValueError, match="120×120"):
        screenshots.compressed(noise(120), 100)


@pytest.mark.slow
@pytest.mark.parametrize("has_maps", [True, False])
def test_each_screen_is_a_picture_of_its_own(chromium, tmp_path, has_maps):
    study = write_study(tmp_path / "study-sample", images=200)
    if has_maps:
        add_explorable(study)
    before = {path: path.stat().st_mtime_ns for path in study.rglob("*")}
    done = subprocess.run(
        [sys.executable, TOOLS / "screenshots.py", study, tmp_path / "images", "--whole"],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in study.rglob("*")} == before
    pictures = {path.stem: Image.open(path).convert("L") for path in (tmp_path / "images").iterdir()}
    looks = ("", "-dark", "-phone")
    assert set(pictures) == {f"report{whole}{look}" for whole in ("", "-whole") for look in looks}
    assert all((tmp_path / f"images/report{look}.png").stat().st_size < 300_000 for look in looks)
    assert pictures["report"].size == pictures["report-dark"].size == (1600, 1250)
    assert np.mean(pictures["report"]) > 200 > 80 > np.mean(pictures["report-dark"])
    assert pictures["report-whole"].height > 3 * pictures["report"].height
    assert pictures["report-phone"].height == 2 * 844


def test_a_browser_that_is_missing_is_said_in_a_line():
    with pytest.raises(SystemExit, match=r"^error: no-such-browser is not installed; name a browser with --browser\.$"):
        screenshots.find_browser("no-such-browser")
    assert screenshots.find_browser(sys.executable) == sys.executable
