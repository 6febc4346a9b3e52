"""A folder of bad and odd images through the real loader: each has its verdict, and no file is touched."""

from __future__ import annotations

import csv
import hashlib
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from corpus import JUNK, SIZE, Odd, build, cases, fits, matches, png_of_zeros

from twoviews.cli import main
from twoviews.dataset.image_folder import load_folder
from twoviews.dataset.images import Source

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other file systems refuse some of the names")
NAMES = {os.fsdecode(case.name): case for case in cases()}


def tree(root: Path) -> dict[str, object]:
    """Names, kinds, times and contents of everything below ``root``."""
    found: dict[str, object] = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            status = os.lstat(path)
            content = Path(path).read_bytes() if os.path.isfile(path) else b""
            found[path] = (status.st_mode, status.st_size, status.st_mtime_ns, hashlib.sha256(content).digest())
    return found


@dataclass(frozen=True)
class Loaded:
    """The corpus, read once."""

    root: Path
    reasons: dict[str, str]
    source: Source
    before: dict[str, object]
    seconds: float

    @property
    def kept(self) -> dict[str, np.ndarray]:
        images = self.source.unlabeled
        rows = {images.name(i).removeprefix("unlabeled/"): images.pixels[i] for i in range(len(images))}
        return {name: pixels.transpose(1, 2, 0) for name, pixels in rows.items()}

    @property
    def left_out(self) -> dict[str, str]:
        return {os.path.basename(item.path): item.reason for item in self.source.skipped}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    root = tmp_path_factory.mktemp("corpus") / "photos"
    reasons = build(root)
    before = tree(root)
    started = time.process_time()
    source = load_folder(root, image_size=SIZE, cache=root.parent / "cache", max_bad=1.0, require_labels=False)
    return Loaded(root, reasons, source, before, time.process_time() - started)


def test_the_corpus_is_large_enough_to_mean_something(loaded: Loaded) -> None:
    assert len(NAMES) == len(cases())
    assert sum(bool(case.reason) and not case.either for case in cases()) + len(loaded.reasons) >= 25
    assert len(cases()) >= 80


@pytest.mark.parametrize("case", cases(), ids=lambda case: ascii(case.name))
def test_each_file_has_its_verdict(loaded: Loaded, case: Odd) -> None:
    name = os.fsdecode(case.name)
    kept, left_out = loaded.kept, loaded.left_out
    assert (name in kept) + (name in left_out) == 1, "in neither or in both"
    if name in left_out:
        assert fits(case, left_out[name]), left_out[name]
        assert "\n" not in left_out[name]
    else:
        assert not case.reason or case.either
        assert matches(case, kept[name]) == ""


def test_what_is_no_readable_file_is_left_out_and_junk_is_not_seen(loaded: Loaded) -> None:
    for name, reason in loaded.reasons.items():
        assert fits(Odd(name, b"", reason), loaded.left_out[name]), loaded.left_out[name]
    seen = {*loaded.kept, *loaded.left_out}
    assert seen == {*NAMES, *loaded.reasons}
    assert not {Path(name).name for name in JUNK} & seen


def test_the_files_are_untouched(loaded: Loaded) -> None:
    assert tree(loaded.root) == loaded.before


def test_no_file_takes_long(loaded: Loaded) -> None:
    assert loaded.seconds < 5  # of processor time, for all of them


def test_the_order_is_that_of_the_names_bytes(loaded: Loaded) -> None:
    order = list(loaded.kept)
    assert order.index("SAME.png") < order.index("same.png")
    assert order.index("e\u0301.png") + 1 == order.index("\u00e9.png")


def test_what_changes_after_decoding_does_not_matter(loaded: Loaded, tmp_path: Path) -> None:
    """Training reads the decoded array alone: a file may change or go while it runs."""
    folder = tmp_path / "photos" / "unlabeled"
    folder.mkdir(parents=True)
    for name in ("x.bmp", "x.ppm"):
        (folder / name).write_bytes(NAMES[name].content)
    source = load_folder(folder.parent, image_size=SIZE, cache=tmp_path / "cache", require_labels=False)
    before = source.unlabeled.read(slice(None))
    (folder / "x.bmp").write_bytes(NAMES["palette.png"].content)
    (folder / "x.ppm").unlink()
    assert np.array_equal(source.unlabeled.read(slice(None)), before)


def test_check_lists_what_is_left_out(
    loaded: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["check", str(loaded.root), "--image-size", str(SIZE), "--max-bad", "1", "--out", str(tmp_path / "out")]
    assert main([*words, "--cache", str(loaded.root.parent / "cache")]) == 0
    with open(tmp_path / "out" / "skipped.csv", encoding="utf-8", errors="surrogateescape", newline="") as stream:
        listed = {os.path.basename(row["path"]): row["reason"] for row in csv.DictReader(stream)}
    assert listed == loaded.left_out
    said = capfd.readouterr().out
    assert "\\x1b[31mred\\nempty.jpg: empty file\n" in said
    assert "\x1b" not in said
    assert tree(loaded.root) == loaded.before


def test_too_many_bad_files_are_refused(
    loaded: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    cache = str(loaded.root.parent / "cache")
    assert main(["check", str(loaded.root), "--image-size", str(SIZE), "--cache", cache]) == 3
    said = capfd.readouterr().err
    assert f"{len(loaded.left_out):,} of {len(loaded.kept) + len(loaded.left_out):,} files can't be used" in said
    assert "--max-bad" in said
    assert said.count("\n") == 1


def test_a_bomb_takes_no_memory(tmp_path: Path) -> None:
    """A whole PNG of 900 megapixels in 3 MB: 2.7 GB of memory if anything decoded it."""
    assert len(png_of_zeros(30_000, 30_000)) < 4_000_000
    folder = tmp_path / "photos" / "unlabeled"
    folder.mkdir(parents=True)
    (folder / "bomb.png").write_bytes(png_of_zeros(30_000, 30_000))
    (folder / "x.bmp").write_bytes(NAMES["x.bmp"].content)
    code = (
        "import sys; from pathlib import Path; from twoviews.dataset.image_folder import load_folder\n"
        "root = Path(sys.argv[1])\n"
        "source = load_folder(root, image_size=32, cache=root / 'cache', max_bad=1, require_labels=False)\n"
        "print(source.skipped[0].reason)\n"
        "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "photos")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    reason, most = done.stdout.splitlines()[:2]
    assert "900 MP > 128 MP" in reason
    assert int(most.split()[1]) < 300_000  # kilobytes


def test_the_bomb_is_a_whole_png(tmp_path: Path) -> None:
    """Otherwise it would prove nothing: the same recipe at a size that may be decoded is."""
    folder = tmp_path / "photos" / "unlabeled"
    folder.mkdir(parents=True)
    (folder / "black.png").write_bytes(png_of_zeros(300, 400))
    source = load_folder(folder.parent, image_size=SIZE, cache=tmp_path / "cache", require_labels=False)
    assert len(source.unlabeled) == 1
    assert source.unlabeled.pixels.max() == 0
