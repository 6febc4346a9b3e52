"""DATA by its name: which names there are, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_cifar10 import write_set

from twoviews.dataset.images import Source
from twoviews.dataset.parts import NAMED
from twoviews.dataset.sources import load_source, short_name
from twoviews.errors import DataError, SettingsError
from twoviews.recipes import RECIPES, recipe_name


def load(data: str, root: Path, image_size: int, **parts: Any) -> Source:
    folders: dict[str, Any] = {"unlabeled": None, "train": None, "val": None, "test": None, **parts}
    return load_source(
        data,
        **folders,
        image_size=image_size,
        data_root=root,
        cache=root / "cache",
        max_bad=0.05,
        max_pixels=10**8,
        follow_links=False,
    )


def test_run_folders_are_called_after_what_was_named() -> None:
    assert short_name("photos/2026") == "2026"
    assert short_name("sample", [None, Path("photos/train")]) == "photos"
    assert short_name("sample", [Path("pictures"), None]) == "pictures"
    assert short_name("holiday", [Path("elsewhere/train")]) == "holiday"


def test_every_name_has_its_recipe_and_its_size(tmp_path: Path) -> None:
    assert NAMED == ("sample", "stl10", "cifar10", "cifar10_as_stl10")
    for name in NAMED:
        assert recipe_name(name, lambda: False) == name
        assert short_name(name) == name
        right = RECIPES[name].settings["image_size"]
        with pytest.raises(SettingsError, match=f"{name} are {right} pixels and stay so") as caught:
            load(name, tmp_path, right + 8)
        assert str(caught.value).startswith(f"--image-size {right + 8}: ")
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [], "nothing was downloaded for it"


def test_a_name_is_read_from_its_root(tmp_path: Path) -> None:
    write_set(tmp_path)
    source = load("cifar10", tmp_path, 32)
    assert (source.name, source.train.image_size, source.folds) == ("cifar10", 32, None)
    with pytest.raises(DataError, match="put the whole CIFAR-10 there"):
        load("cifar10_as_stl10", tmp_path, 32)


@pytest.mark.parametrize(
    ("slip", "meant"), [("cifar-10", "cifar10"), ("STL10", "stl10"), ("cifar10-as-stl10", "cifar10_as_stl10")]
)
def test_a_slip_is_asked_about(tmp_path: Path, slip: str, meant: str) -> None:
    with pytest.raises(DataError, match=f"{slip} is not a folder.*did you mean {meant}\\?"):
        load(slip, tmp_path, 32)


def test_a_folder_called_nearly_so_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cifar-10").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"cifar-10 holds none of unlabeled/"):
        load("cifar-10", tmp_path, 32)
    with pytest.raises(DataError, match=r"photos is not a folder: name one that holds"):
        load("photos", tmp_path, 32)


def test_parts_that_are_named_have_any_size(tmp_path: Path) -> None:
    """DATA's default is a name; with parts it does not count."""
    with pytest.raises(DataError, match="check --train"):
        load("sample", tmp_path, 48, train=tmp_path / "nowhere")
