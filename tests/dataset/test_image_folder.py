"""A folder of images: what is read, in which order, what is refused, and what the cache remembers."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from twoviews.dataset import decode_cache, decode_workers
from twoviews.dataset import scan as scan_module
from twoviews.dataset.folder_words import not_pictures
from twoviews.dataset.image_folder import load_folder
from twoviews.dataset.images import Source
from twoviews.errors import DataError, ResourceError

SIZE = 16


def put(path: Path, seed: int | None = None) -> np.ndarray:
    """Write a random SIZE×SIZE PNG; its pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    number = int.from_bytes(hashlib.md5(os.fsencode(path)).digest()[:4], "big") if seed is None else seed
    pixels = np.random.default_rng(number).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, "PNG")
    return pixels


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """unlabeled/ 3 images, train/ and test/ with the classes cat and dog."""
    root = tmp_path / "pets"
    for name in ("b.png", "deep/er/a.png", "c.png"):
        put(root / "unlabeled" / name)
    for part, count in (("train", 3), ("test", 2)):
        for pet in ("dog", "cat"):
            for i in range(count):
                put(root / part / pet / f"{i}.png")
    return root


def load(root: Path | None, **options: Any) -> Source:
    base = root.parent if root is not None else next(iter(options.values())).parent
    options.setdefault("cache", base / "cache")
    return load_folder(root, **{"image_size": SIZE, **options})


def names(images: Any) -> list[str]:
    return [images.name(i) for i in range(len(images))]


def tree_hash(root: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        digest.update(f"{path} {status.st_mode} {status.st_size} {status.st_mtime_ns}".encode())
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


def test_parts_classes_order_and_pixels(root: Path) -> None:
    before = tree_hash(root)
    source = load(root)
    assert tree_hash(root) == before
    assert source.name == "pets"
    assert source.class_names == ("cat", "dog")
    assert names(source.unlabeled) == ["unlabeled/b.png", "unlabeled/c.png", "unlabeled/deep/er/a.png"]
    assert names(source.train) == [f"train/{pet}/{i}.png" for pet in ("cat", "dog") for i in range(3)]
    assert source.train.labels is not None
    assert list(source.train.labels) == [0, 0, 0, 1, 1, 1]
    assert source.test is not None
    assert len(source.test) == 4
    assert source.val is None
    assert source.unlabeled.labels is None
    for images in (source.unlabeled, source.train, source.test):
        assert isinstance(images.pixels, np.memmap)
        assert not images.pixels.flags.writeable
        for position, name in enumerate(names(images)):
            expected = np.asarray(Image.open(root / name)).transpose(2, 0, 1)
            assert np.array_equal(images.pixels[position], expected)
    assert source.skipped == []


def test_without_unlabeled_the_training_images_serve(root: Path) -> None:
    for file in sorted((root / "unlabeled").rglob("*.png")):
        file.unlink()
    for folder in ("deep/er", "deep", ""):
        (root / "unlabeled" / folder).rmdir()
    source = load(root)
    assert source.unlabeled.pixels is source.train.pixels
    assert np.array_equal(source.unlabeled.rows, source.train.rows)
    assert source.unlabeled.labels is None
    assert any("training images serve" in note for note in source.notes)


def test_parts_named_one_by_one_and_val(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    for pet in ("cat", "dog"):
        put(other / pet / "v.png")
    source = load(root, val=other)
    assert source.val is not None
    assert names(source.val) == ["val/cat/v.png", "val/dog/v.png"]
    source = load(None, train=root / "train", cache=tmp_path / "cache")
    assert source.test is None
    assert any("no test part" in note for note in source.notes)
    assert source.name == "pets"


def test_pretraining_needs_no_labels(tmp_path: Path) -> None:
    put(tmp_path / "data" / "unlabeled" / "a.png")
    with pytest.raises(DataError, match="No labelled training images"):
        load(tmp_path / "data")
    source = load(tmp_path / "data", require_labels=False)
    assert len(source.unlabeled) == 1
    assert len(source.train) == 0
    assert source.train.labels is not None
    assert source.class_names == ()


def test_order_is_by_bytes_of_the_composed_name(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "unlabeled"
    listed = ["B.png", "a-b.png", "a.png", "b.png", "e\u0301.png", "z.png", "\u00e9.png", "10.png", "2.png"]
    for name in listed:
        put(folder / name)
    source = load(tmp_path / "data", require_labels=False)
    # é composed is the bytes C3 A9, after z; of two forms of one name, the decomposed (65 CC 81) is first.
    expected = ["10.png", "2.png", "B.png", "a-b.png", "a.png", "b.png", "z.png", "e\u0301.png", "\u00e9.png"]
    assert names(source.unlabeled) == [f"unlabeled/{name}" for name in expected]


def test_odd_names_are_kept(tmp_path: Path) -> None:
    root = tmp_path / "data"
    classes = ["<script>", "=1+1", "a\nb", "\U0001f408", os.fsdecode(b"\xff\xfe")]
    try:
        for name in classes:
            put(root / "train" / name / "x y'\".PNG")
    except OSError:
        pytest.skip("this file system does not take such names")
    for _ in range(2):  # the second time from the cache
        source = load(root)
        assert set(source.class_names) == set(classes)
        assert source.name == "data"


def test_numbers_as_classes_are_names(tmp_path: Path) -> None:
    for name in ("1", "2", "10"):
        put(tmp_path / "data" / "train" / name / "x.png")
    assert load(tmp_path / "data").class_names == ("1", "10", "2")


def test_what_desktops_leave_behind_is_not_seen(root: Path) -> None:
    for name in (
        ".DS_Store",
        "Thumbs.db",
        "cat/._0.png",
        "__MACOSX/cat/0.png",
        ".ipynb_checkpoints/x.png",
        "cat/desktop.ini",
    ):
        path = root / "train" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"junk")
    source = load(root)
    assert source.class_names == ("cat", "dog")
    assert len(source.train) == 6
    assert source.skipped == []


# Files beside pictures

SIDECARS = ["a.json", "b.JSON", "c.xml", "d.txt", "e.csv", "f.md", "g.yaml", "h.yml", "i.xmp", "j.aae", "k.html"]


def test_what_is_no_picture_by_its_name_is_counted_in_one_note_and_is_not_bad(root: Path) -> None:
    for name in SIDECARS:
        (root / "train/cat" / name).write_text("{}")
        (root / "unlabeled" / name).write_text("")
    (root / "train/labels.csv").write_text("a,b\n")
    source = load(root, max_bad=0.0)
    assert source.skipped == []
    assert "23 files that are no pictures by their names were left out." in source.notes
    assert not_pictures(source.no_pictures) == ["23 files that are no pictures by their names were left out."]
    (root / "unlabeled/page.jpg").write_text("<html></html>")
    with pytest.raises(DataError, match="1 of 14 files can't be used"):  # what claims to be a picture still counts
        load(root, max_bad=0.05)


def test_a_name_that_claims_nothing_may_be_a_picture_s(root: Path) -> None:
    (root / "unlabeled/0a1b").write_bytes((root / "unlabeled/b.png").read_bytes())
    (root / "unlabeled/set.txt").mkdir()
    put(root / "unlabeled/set.txt/x.png")
    (root / "unlabeled/notes.txt").write_text("one")
    source = load(root)
    assert {"unlabeled/0a1b", "unlabeled/set.txt/x.png"} <= set(names(source.unlabeled))
    assert not_pictures(source.no_pictures) == ["1 file that is no picture by its name was left out."]
    assert "1 file that is no picture by its name was left out." in source.notes


def test_a_folder_of_anything_but_pictures_is_named_without_a_flag(tmp_path: Path) -> None:
    (tmp_path / "pics").mkdir()
    (tmp_path / "pics/readme.md").write_text("none yet")
    with pytest.raises(DataError) as caught:
        load_folder(None, unlabeled=tmp_path / "pics", image_size=16, cache=tmp_path / "c", require_labels=False)
    assert str(caught.value).startswith(f"{tmp_path / 'pics'} holds no readable image (JPEG, ")
    assert "--" not in str(caught.value)


# Bad files


def test_bad_files_are_listed_with_path_reason_and_size(root: Path) -> None:
    folder = root / "unlabeled"
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "page.jpg").write_bytes(b"<html></html>")
    (root / "train" / "stray.png").write_bytes((root / "train" / "cat" / "0.png").read_bytes())
    source = load(root, max_bad=0.5)
    size = (root / "train" / "stray.png").stat().st_size
    assert [(item.path, item.reason, item.bytes) for item in source.skipped] == [
        (str(folder / "empty.jpg"), "empty file", 0),
        (str(folder / "page.jpg"), "not an image", 13),
        (str(root / "train" / "stray.png"), "not in a class folder", size),
    ]
    assert len(source.unlabeled) == 3
    assert load(root, max_bad=0.5).skipped == source.skipped  # from the cache
    with pytest.raises(DataError) as caught:
        load(root, max_bad=0.1)
    assert "3 of 16 files can't be used" in str(caught.value)
    assert "1 empty file" in str(caught.value)
    assert "--max-bad" in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_pipes_and_dead_links(root: Path) -> None:
    os.mkfifo(root / "unlabeled" / "p.jpg")
    os.symlink("nowhere.png", root / "unlabeled" / "q.jpg")
    reasons = [item.reason for item in load(root, max_bad=0.5).skipped]
    assert reasons == ["not a regular file", "link that leads nowhere"]


def test_a_lack_of_memory_is_not_said_of_the_disk(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def starving(*arguments: Any) -> Any:
        raise ResourceError("Not enough memory") from MemoryError()
        yield

    monkeypatch.setattr(decode_cache, "decode_all", starving)
    with pytest.raises(ResourceError, match=r"^Not enough memory$"):
        load(root)


@pytest.mark.skipif(sys.platform != "linux", reason="the longest path is another elsewhere")
def test_a_path_longer_than_the_system_takes_is_listed(root: Path) -> None:
    inside = os.open(root / "unlabeled", os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=inside)
        deeper = os.open("d" * 250, os.O_RDONLY, dir_fd=inside)
        os.close(inside)
        inside = deeper
    os.close(inside)
    source = load(root, max_bad=0.5)
    assert [item.reason for item in source.skipped] == ["can't be read: file name too long"]
    assert len(source.unlabeled) == 3


def test_a_folder_without_permission_is_listed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(scan_module.os, "scandir", refuse)
    source = load(root, max_bad=0.5)
    assert [(item.path, item.reason) for item in source.skipped] == [
        (str(root / "unlabeled" / "deep"), "permission denied")
    ]
    assert len(source.unlabeled) == 2


def test_links(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    put(outside / "far.png")
    unlabeled = root / "unlabeled"
    os.symlink("..", unlabeled / "deep" / "loop", target_is_directory=True)
    os.symlink("deep", unlabeled / "again", target_is_directory=True)
    os.symlink("b.png", unlabeled / "same.png")
    os.symlink(outside, unlabeled / "out", target_is_directory=True)
    source = load(root, max_bad=0.5)
    assert names(source.unlabeled) == [f"unlabeled/{name}" for name in ("b.png", "c.png", "deep/er/a.png", "same.png")]
    assert [item.reason for item in source.skipped] == [
        "link that leads outside the folder (--follow-links follows it)"
    ]
    source = load(root, follow_links=True)
    assert "unlabeled/out/far.png" in names(source.unlabeled)
    assert source.skipped == []


def test_a_part_that_is_a_link_to_elsewhere(root: Path, tmp_path: Path) -> None:
    (root / "test").rename(tmp_path / "moved")
    os.symlink(tmp_path / "moved", root / "test", target_is_directory=True)
    with pytest.raises(DataError, match="--follow-links"):
        load(root)
    assert load(root, follow_links=True).test is not None


# Refusals


def test_classes_must_match_by_name(root: Path) -> None:
    (root / "test" / "dog").rename(root / "test" / "wolf")
    with pytest.raises(DataError, match=r"only in train: dog; only in test: wolf"):
        load(root)
    assert not (root.parent / "cache").exists()  # said before the long work


def test_a_missing_test_class_is_refused_and_an_empty_one_noted(root: Path) -> None:
    for file in (root / "test" / "dog").iterdir():
        file.unlink()
    source = load(root)
    assert any("test without a usable image: dog" in note for note in source.notes)
    (root / "test" / "dog").rmdir()
    with pytest.raises(DataError, match=r"only in train: dog; only in test: none"):
        load(root)


def test_a_class_whose_images_are_all_bad_is_no_class(root: Path) -> None:
    (root / "train" / "emu").mkdir()
    (root / "train" / "emu" / "0.png").write_bytes(b"no")
    (root / "test").rename(root / "away")
    source = load(root, max_bad=0.5)
    assert source.class_names == ("cat", "dog")
    assert any("train without a usable image: emu" in note for note in source.notes)


def test_empty_class_folders_are_left_out_with_a_note(root: Path) -> None:
    (root / "train" / "emu").mkdir()
    source = load(root)
    assert source.class_names == ("cat", "dog")
    assert any("emu" in note and "left out" in note for note in source.notes)


def test_one_class_is_nothing_to_classify(tmp_path: Path) -> None:
    put(tmp_path / "data" / "train" / "cat" / "0.png")
    with pytest.raises(DataError, match=r"Only one class \(cat\).*nothing to classify"):
        load(tmp_path / "data")
    assert load(tmp_path / "data", require_labels=False).class_names == ("cat",)


@pytest.mark.parametrize("part", ["unlabeled", "train", "test"])
def test_an_empty_part_is_refused(root: Path, part: str) -> None:
    (root / part).rename(root / "away")
    (root / part).mkdir()
    with pytest.raises(DataError, match=r"holds no readable image.*JPEG, PNG"):
        load(root)


def test_folders_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        load(tmp_path / "nowhere")
    (tmp_path / "data" / "images").mkdir(parents=True)
    with pytest.raises(DataError, match="holds none of unlabeled/"):
        load(tmp_path / "data", require_labels=False)
    with pytest.raises(DataError, match="check --train"):
        load(tmp_path / "data", train=tmp_path / "nowhere")


def test_the_test_folder_may_not_be_trained_on(root: Path) -> None:
    with pytest.raises(DataError, match="may not be trained on"):
        load(root, unlabeled=root)
    with pytest.raises(DataError, match="may not be trained on"):
        load(root, unlabeled=root / "test")
    with pytest.raises(DataError, match="may not be trained on"):
        load(root, train=root / "test")
    os.symlink("test", root / "alias", target_is_directory=True)
    with pytest.raises(DataError, match="may not be trained on"):
        load(root, unlabeled=root / "alias")
    assert len(load(root, unlabeled=root / "train").unlabeled) == 6


# The cache


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many files each decoding was asked for."""
    counts: list[int] = []
    real = decode_cache.decode_all

    def counting(folder: str, files: Any, *rest: Any) -> Any:
        counts.append(len(files))
        return real(folder, files, *rest)

    monkeypatch.setattr(decode_cache, "decode_all", counting)
    return counts


def test_the_second_time_nothing_is_decoded(root: Path, decoded: list[int]) -> None:
    first = load(root)
    assert decoded == [3, 6, 4]
    second = load(root)
    assert decoded == [3, 6, 4]
    assert np.array_equal(first.train.pixels, second.train.pixels)
    assert names(first.unlabeled) == names(second.unlabeled)


@pytest.mark.parametrize("change", ["edit", "edit that keeps size and time", "add", "remove", "rename", "size"])
def test_what_changes_is_decoded_again(root: Path, decoded: list[int], change: str) -> None:
    load(root)
    del decoded[:]
    file = root / "unlabeled" / "b.png"
    if change == "edit":
        put(file, seed=99)
    elif change == "edit that keeps size and time":
        status, content = file.stat(), bytearray(file.read_bytes())
        content[20] ^= 1
        file.write_bytes(content)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif change == "add":
        put(root / "unlabeled" / "new.png")
    elif change == "remove":
        file.unlink()
    elif change == "rename":
        file.rename(root / "unlabeled" / "bb.png")
    again = load(root, max_bad=0.5, **({"image_size": 8} if change == "size" else {}))
    assert len(decoded) == (3 if change == "size" else 1)
    assert len(list((root.parent / "cache").glob("unlabeled-*.npy"))) == (2 if change == "size" else 1)
    if change == "edit":
        assert np.array_equal(again.unlabeled.pixels[0], np.asarray(Image.open(file)).transpose(2, 0, 1))


def test_an_interrupted_decoding_leaves_nothing_that_looks_finished(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = decode_cache.decode_all

    def interrupted(*arguments: Any) -> Any:
        yield next(iter(real(*arguments)))
        raise KeyboardInterrupt

    monkeypatch.setattr(decode_cache, "decode_all", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load(root)
    assert [file.name for file in (root.parent / "cache").iterdir() if not file.name.endswith("lock")] == []
    monkeypatch.setattr(decode_cache, "decode_all", real)
    assert len(load(root).unlabeled) == 3


class Payload:
    """Unpickled, it would leave a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("damage", ["no index", "cut array", "garbled index", "no array", "pickle"])
def test_a_damaged_cache_is_made_again(root: Path, decoded: list[int], damage: str) -> None:
    expected = np.array(load(root).unlabeled.pixels)
    array = next((root.parent / "cache").glob("unlabeled-*.npy"))
    index = array.with_suffix(".json")
    if damage == "no index":
        index.unlink()
    elif damage == "cut array":
        array.write_bytes(array.read_bytes()[:-100])
    elif damage == "garbled index":
        index.write_text("[")
    elif damage == "pickle":
        np.save(array, np.array([Payload(root / "ran")], dtype=object), allow_pickle=True)
    else:
        array.unlink()
    del decoded[:]
    assert np.array_equal(load(root).unlabeled.pixels, expected)
    assert decoded == [3]
    assert not (root / "ran").exists()


def test_a_cache_that_cannot_be_written_is_a_lack_of_resources(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="--cache"):
        load(root, cache=tmp_path / "file" / "cache")


# Processes


def test_processes_give_what_one_process_gives(root: Path, tmp_path: Path) -> None:
    for i in range(40):
        put(root / "unlabeled" / f"n{i:02d}.png")
    (root / "unlabeled" / "n20.png").write_bytes(b"no image")
    said: list[tuple[int, int, str]] = []
    one = load(root, cache=tmp_path / "one", workers=1)
    two = load(root, cache=tmp_path / "two", workers=2, progress=lambda *step: said.append(step))
    assert np.array_equal(one.unlabeled.pixels, two.unlabeled.pixels)
    assert names(one.unlabeled) == names(two.unlabeled)
    assert one.skipped == two.skipped
    assert len(one.skipped) == 1
    assert (43, 43, "Decoding unlabeled") in said


def test_a_script_without_a_main_guard_decodes_in_processes(root: Path, tmp_path: Path) -> None:
    for i in range(40):
        put(root / "unlabeled" / f"n{i:02d}.png")
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\nfrom twoviews.dataset.image_folder import load_folder\n"
        "print('started')\nroot, cache = map(Path, sys.argv[1:])\n"
        "source = load_folder(root, image_size=16, cache=cache, workers=2)\n"
        "print(len(source.unlabeled), 'torch' in sys.modules)\n"
    )
    command = [sys.executable, str(script), str(root), str(tmp_path / "cache")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "started\n43 False\n", done.stderr


def test_a_file_that_kills_its_decoder_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(40):
        put(root / "unlabeled" / f"n{i:02d}.png")
    monkeypatch.setattr(decode_workers, "decode_batch", die_of_n20)
    with pytest.raises(DataError, match=r"n20\.png kills the decoder"):
        load(root, workers=2)


def die_of_n20(folder: str, files: Any, size: int, max_pixels: int) -> Any:
    """Stands for a decoder with a fault in its native code; runs in the worker."""
    if any(file.path == "n20.png" for file in files):
        os._exit(11)
    return decode_workers.decode_batch(folder, files, size, max_pixels)
