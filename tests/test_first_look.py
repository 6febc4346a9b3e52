"""What a command names that is not there is refused in one line, before anything slow is loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from twoviews.dataset.parts import require_any_part
from twoviews.errors import DataError, SettingsError
from twoviews.first_look import COMMON_BACKBONES, require_backbone

# Of each: the words, the exit code, and the line.
CASES: list[tuple[list[str], int, str]] = [
    (["study", "photoz"], 3, "photoz is not a folder: name one that holds unlabeled/, train/<class>/, test/<class>/."),
    (["check", "stl1O"], 3, "stl1O is not a folder, nor one of sample, stl10, cifar10, cifar10_as_stl10: did you mean"),
    (["pretrain", "a.zip"], 3, "a.zip is not a folder but a file: name the folder that holds unlabeled/, "),
    (["study", "--train", "nowhere"], 3, "nowhere is not a folder: check --train."),
    (["study", ""], 2, "an empty word stands where a value should be ('')"),
    (["study", "--out="], 2, "--out: needs a value"),
    (["predict", "run", "nowhere"], 3, "nowhere is not a folder: name one with images in it."),
    (["predict", "run", "a.zip"], 3, "a.zip is not a folder but a file: name the folder that it lies in."),
    (["predict", "nowhere", "photos"], 4, "nowhere is not there: name a run folder, or a weights file."),
    (["finetune", "nowhere"], 4, "nowhere is not there: name a run folder, or a weights file."),
    (["study", "sample", "--init", "x.pth"], 4, "--init x.pth: no such weights file."),
    (["study", "photos", "--folds"], 2, "--folds: photos has no official folds; stl10 and cifar10_as_stl10 have."),
    (["supervised", "sample", "--fold", "1"], 2, "--fold: sample has no official folds; "),
    (["study", "stl10", "--train", "photos", "--folds"], 2, "--folds: a folder has no official folds; "),
    (["study", "photos"], 3, "photos has no test part: move some images of each class to test/<class>/, or name a "),
    (["study", "--train", "classes"], 3, "classes has no test part: "),
    (["study", "classes", "--train", "classes"], 3, "classes has no test part: "),
    (["check", "classes"], 3, "classes holds none of unlabeled/, train/<class>/, val/<class>/, test/<class>/, but 2 "),
    (["pretrain", "flat pics"], 3, "flat pics holds none of unlabeled/, train/<class>/, val/<class>/, test/<class>/, "),
    (["study", "photos", "--new", "--fork"], 2, "--new begins from nothing and --fork from a run's weights: "),
    (["pretrain", "photos", "--crop-scale", "1", "0.4"], 2, "--crop-scale 1 0.4: "),
    (["export", "run", "--out", "a.zip"], 2, "--out a.zip is a file; name a folder."),
]

CODE = """
import io, json, sys
from contextlib import redirect_stderr
from twoviews.cli import main
said = []
for words in json.loads(sys.stdin.read()):
    with redirect_stderr(io.StringIO()) as stream:
        code = main(words)
    slow = [name for name in ("torch", "timm", "sklearn") if name in sys.modules]
    said.append([code, stream.getvalue(), slow])
print(json.dumps(said))
"""


def test_what_is_not_there_is_refused_before_torch_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "photos/train").mkdir(parents=True)
    (tmp_path / "run").mkdir()
    for name in ("classes/cat/1.jpg", "classes/dog/2.PNG", "flat pics/3.webp"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a.zip").write_bytes(b"PK")
    words = json.dumps([case[0] for case in CASES])
    run = [sys.executable, "-c", CODE]
    done = subprocess.run(run, input=words, capture_output=True, text=True, timeout=170, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    for (case, code, line), (got, said, slow) in zip(CASES, json.loads(done.stdout), strict=True):
        assert (got, slow) == (code, []), (case, said, slow)
        assert said.startswith(f"twoviews: {line}"), (case, said)
        assert said.count("\n") == 1, (case, said)


@pytest.mark.parametrize(
    ("files", "advice"),
    [
        (
            ["cat/1.jpg", "dog/2.PNG"],
            "2 folders of images: if they are its classes, add --train 'my pics' (and --test ",
        ),
        (["cat/1.jpg", "notes/2.txt"], "1 folder of images: if they are its classes, add --train 'my pics' (and"),
        (["1.webp"], "but images: add --unlabeled 'my pics' (and --train DIR, --test DIR, with a folder per class)."),
        (["notes.txt"], "arrange the images so, or name the parts with --unlabeled DIR, --train DIR, --test DIR."),
    ],
)
def test_a_folder_in_another_order_brings_the_flag_that_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[str], advice: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in files:
        path = Path("my pics") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with pytest.raises(DataError) as caught:
        require_any_part(Path("my pics"))
    assert advice in str(caught.value)


def test_a_device_that_is_not_there_is_refused_before_timm_is_loaded(tmp_path: Path) -> None:
    code = (
        "import sys, torch; torch.cuda.is_available = lambda: False\n"
        "from twoviews.cli import main\n"
        "assert main(['study', 'sample', '--device', 'cuda']) == 2\n"
        "assert 'timm' not in sys.modules and 'sklearn' not in sys.modules\n"
    )
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, capture_output=True, text=True, timeout=170, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("twoviews: --device cuda: not found on this machine")


def test_a_backbone_that_is_none_brings_the_common_names_first() -> None:
    for name in COMMON_BACKBONES:
        require_backbone(name)
    with pytest.raises(SettingsError, match=r"--backbone resnet19: timm has no such model; did you mean resnet18 or "):
        require_backbone("resnet19")
    with pytest.raises(SettingsError, match=r"did you mean (?!resnet)") as caught:
        require_backbone("vit_base_patch16_225")
    assert "vit_base_patch16_224" in str(caught.value)
