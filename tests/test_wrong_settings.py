"""Wrong settings end with exit code 2 before any image is read, in one line: the key, the value, what is allowed."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from pydantic import ValidationError

from twoviews import cli, settings
from twoviews.dataset import sources
from twoviews.settings import PretrainCommand, StudyCommand
from twoviews.trainers.settings_file import FREE


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No output/ of an earlier run in sight, and no image is read."""
    monkeypatch.chdir(tmp_path)

    def read(*arguments: object, **named: object) -> None:
        raise AssertionError("images were read")

    monkeypatch.setattr(sources, "load_sample", read)
    monkeypatch.setattr(sources, "load_folder", read)


def line_of(capsys: pytest.CaptureFixture[str], words: list[str]) -> str:
    """The one line on stderr of a command that ends with exit code 2."""
    code = cli.main(words)
    out, err = capsys.readouterr()
    assert (code, out) == (2, ""), err
    assert err.startswith("twoviews: ")
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    return err.removeprefix("twoviews: ").strip()


FLAGS: list[tuple[str, list[str]]] = [
    # Unknown.
    ("study --epoch 5", ["--epoch: no such setting", "--pretrain.epochs"]),
    ("pretrain --lr 0.1", ["--lr: no such setting", "did you mean", "--base-lr"]),
    ("pretrain --learning-rate 0.1", ["--learning-rate: no such setting"]),
    ("pretrain --batchsize 64", ["--batchsize: no such setting; did you mean --batch-size?"]),
    ("pretrain --Epochs 5", ["--Epochs: no such setting; did you mean --epochs?"]),
    ("pretrain -e 5", ["-e"]),
    ("supervised --temperature 0.2", ["--temperature: no such setting"]),
    ("features --epochs 5", ["--epochs: no such setting"]),
    ("check --batch-size 5", ["--batch-size: no such setting"]),
    ("pretrain a b", ["not understood: b; quote a path that has spaces (`twoviews pretrain --help` explains)"]),
    ("export --to onnx", ["--to: should be one of pth (got 'onnx')"]),
    ("study --pretrain.crop-scale 1 0.4", ["--pretrain.crop-scale 1 0.4: should rise from above 0 to at most 1"]),
    ("trian", ["trian: no such command; did you mean"]),
    # Wrong type.
    ("pretrain --epochs ten", ["--epochs: should be a whole number (got 'ten')"]),
    ("pretrain --epochs 2.5", ["--epochs: should be a whole number (got '2.5')"]),
    ("pretrain --temperature warm", ["--temperature: should be a number (got 'warm')"]),
    ("pretrain --crop-scale 0.2 big", ["--crop-scale", "'big'"]),
    ("pretrain --epochs", ["--epochs: needs a value"]),
    ("pretrain --crop-scale 0.5", ["--crop-scale: needs 2 values"]),
    ("pretrain sample --keep-leaks yes", ["not understood: yes"]),
    # Out of range.
    ("pretrain --epochs 0", ["--epochs", "should be at least 1", "got 0"]),
    ("pretrain --epochs 1000000000000000000000", ["--epochs", "should be at most 100000"]),
    ("pretrain --batch-size 1", ["--batch-size", "should be at least 2", "got 1"]),
    ("pretrain --base-lr -0.1", ["--base-lr", "should be above 0", "got -0.1"]),
    ("pretrain --base-lr inf", ["--base-lr", "finite", "got inf"]),
    ("pretrain --temperature 0", ["--temperature", "should be above 0", "got 0"]),
    ("pretrain --temperature -1", ["--temperature", "should be above 0", "got -1"]),
    ("pretrain --momentum 1", ["--momentum", "should be below 1", "got 1"]),
    ("pretrain --weight-decay nan", ["--weight-decay", "finite", "got nan"]),
    ("pretrain --seed -1", ["--seed", "should be at least 0", "got -1"]),
    ("pretrain --seed 2147483648", ["--seed", "should be at most 2147483647"]),
    ("pretrain --image-size 4", ["--image-size", "should be at least 8", "got 4"]),
    ("pretrain --val-fraction 1", ["--val-fraction", "should be below 1"]),
    ("pretrain --threads 0", ["--threads", "should be at least 1"]),
    ("pretrain --devices 0", ["--devices", "should be at least 1"]),
    ("pretrain --minutes 0", ["--minutes", "should be above 0"]),
    ("pretrain --jitter 1.5", ["--jitter", "should be at most 1", "got 1.5"]),
    ("study --supervised.label-smoothing 1", ["--supervised.label-smoothing", "should be below 1"]),
    ("study --features.perplexity 1", ["--features.perplexity", "should be above 1"]),
    ("finetune --backbone-lr-scale 2", ["--backbone-lr-scale", "should be at most 1"]),
    # None of those there are.
    ("pretrain --optimizer adam", ["--optimizer: should be one of sgd, adamw, lars (got 'adam')"]),
    ("pretrain --device gpu", ["--device: should be one of auto, cpu, cuda, mps (got 'gpu')"]),
    ("pretrain --precision float16", ["--precision: should be one of auto, float32, bf16, fp16 (got 'float16')"]),
    ("pretrain --stem large", ["--stem: should be one of auto, small, small-pool, original (got 'large')"]),
    ("pretrain --projection-layers 4", ["--projection-layers", "2", "3"]),
    ("pretrain --recipe imagenet", ["--recipe imagenet: no such recipe; there are", "stl10"]),
    ("bench everything", ["step, augment, loss, data, all"]),
    # Impossible together.
    ("pretrain --crop-scale 0.9 0.2", ["--crop-scale 0.9 0.2: should rise from above 0 to at most 1"]),
    ("pretrain --blur-sigma 2 1", ["--blur-sigma 2 1: should rise from 0 or more"]),
    ("pretrain --view-size 16 --first-view-size 24", ["--first-view-size 24 is above --view-size 16"]),
    (
        "study --pretrain.view-size 16 --pretrain.first-view-size 24",
        ["--pretrain.first-view-size 24 is above --pretrain.view-size 16"],
    ),
    ("pretrain --batch-size 32 --chunk-size 64", ["--chunk-size 64 is above --batch-size 32"]),
    ("pretrain --batch-size 6 --devices 4", ["--batch-size 6: 4 devices need at least 8, 2 images for each"]),
    ("study --finetune.batch-size 6 --devices 4", ["--finetune.batch-size 6: 4 devices need at least 8"]),
    ("pretrain --device mps --devices 2", ["--devices 2"]),
    ("pretrain --keep-leaks --drop-near", ["--keep-leaks", "--drop-near", "give one of them"]),
    ("check photos --keep-leaks --drop-near", ["--keep-leaks", "--drop-near", "give one of them"]),
    ("pretrain --new --fork", ["--new", "--fork", "give one of them"]),
    ("supervised --fork --init timm", ["--fork and --init", "give one of them"]),
    ("finetune --labels-per-class 5 --fold 1", ["--labels-per-class and --fold", "give one of them"]),
    ("study --labels-per-class 10 --label-fractions 0.1", ["--labels-per-class and --label-fractions"]),
    ("study --labels-per-class 10,x", ["--labels-per-class: should be numbers with commas", "'10,x'"]),
    ("study --labels-per-class 1,5", ["--labels-per-class 1,5", "at least 2"]),
    ("study --labels-per-class 2.5", ["--labels-per-class 2.5", "whole number"]),
    ("study --label-fractions 0", ["--label-fractions 0", "above 0 and at most 1"]),
    ("study --label-fractions nan", ["--label-fractions nan", "above 0 and at most 1"]),
    ("study --pretrain-seeds", ["--pretrain-seeds", "--seeds"]),
    ("study --seeds 0", ["--seeds", "should be at least 1"]),
    ("study --tune 1", ["--tune 1", "at least 2"]),
    ("study --jobs 2 --devices 2", ["--jobs 2 and --devices 2", "give one of them"]),
    ("finetune run --init x.pth", ["RUN (run) and --init (x.pth)", "give one of them"]),
    ("study --fork", ["--fork: a study trains several models", "twoviews pretrain --fork"]),
    ("features --fork", ["--fork is for what trains"]),
    # Known to be wrong before the data.
    ("pretrain sample --backbone resnet5O", ["--backbone resnet5O: timm has no such model; did you mean resnet50"]),
    ("predict", ["predict needs RUN and FOLDER"]),
    ("pretrain --config none.yaml", ["none.yaml can't be read (No such file or directory)."]),
    ("pretrain --config .", [". can't be read (Is a directory)."]),
]


@pytest.mark.parametrize(("words", "expected"), FLAGS, ids=[words for words, _ in FLAGS])
def test_wrong_flags(words: str, expected: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    said = line_of(capsys, words.split())
    assert [part for part in expected if part not in said] == [], said


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
YAML: list[tuple[str, bytes, list[str]]] = [
    ("unknown key", b"pretrain:\n  epoch: 5\n", ["pretrain.epoch: no such setting; did you mean pretrain.epochs?"]),
    ("key of a flag", b"batch-size: 5\n", ["batch-size: no such setting; did you mean"]),
    ("duplicate key", b"seed: 1\nseed: 2\n", ["the key seed stands twice", "line 2: "]),
    ("duplicate in a group", b"pretrain:\n  epochs: 1\n  epochs: 2\n", ["line 3: the key epochs stands twice"]),
    ("tab", b"pretrain:\n\tepochs: 5\n", ["my.yaml is not YAML: line 2: a tab; use spaces"]),
    ("python tag", b"seed: !!python/object/apply:os.system ['touch bad']\n", ["is not YAML", "python/object/apply"]),
    ("own tag", b"seed: !mine 5\n", ["is not YAML", "!mine"]),
    ("two documents", b"seed: 1\n---\nseed: 2\n", ["is not YAML: line 2: a second document begins"]),
    ("a list", b"- seed\n", ["holds no settings"]),
    ("nothing", b"", ["holds no settings"]),
    ("no text", b"\xff\xfe\x00seed: 1", ["is not YAML"]),
    ("a number for a name", b"5: 6\n", ["is not YAML", "5 is not a name"]),
    ("a list for a name", b"? [a]\n: 6\n", ["is not YAML"]),
    ("nested too deeply", b"seed: " + b"[" * 1500 + b"]" * 1500, ["nested too deeply"]),
    ("word for a number", b"seed: often\n", ["seed", "should be a whole number", "'often'"]),
    ("switch for a number", b"seed: yes\n", ["seed: should be a value, not a switch (got True)"]),
    (
        "switch in a group",
        b"pretrain:\n  epochs: on\n",
        ["pretrain.epochs: should be a value, not a switch (got True)"],
    ),
    ("fraction for a number", b"seed: 1.5\n", ["seed", "should be a whole number", "1.5"]),
    ("date", b"seed: 2026-01-02\n", ["seed", "should be a whole number"]),
    ("negative", b"pretrain:\n  epochs: -1\n", ["pretrain.epochs", "should be at least 1", "got -1"]),
    ("infinite", b"pretrain:\n  base_lr: .inf\n", ["pretrain.base_lr", "finite"]),
    ("one of two", b"pretrain:\n  crop_scale: [0.5]\n", ["pretrain.crop_scale: has too few values"]),
    (
        "reversed",
        b"pretrain:\n  crop_scale: [0.5, 0.2]\n",
        ["--pretrain.crop-scale 0.5 0.2: should rise from above 0"],
    ),
    ("value for a group", b"pretrain: 5\n", ["pretrain: should be settings, one per line (got 5)"]),
    ("group for a value", b"seed:\n  epochs: 5\n", ["seed", "should be a whole number"]),
    ("none of those", b"device: gpu\n", ["device: should be one of auto, cpu, cuda, mps (got 'gpu')"]),
    ("recipe", b"recipe: imagenet\n", ["--recipe imagenet: no such recipe"]),
    ("together", b"new: true\nfork: true\n", ["--new", "--fork", "give one of them"]),
    ("a billion laughs", (BOMB + "seed: *i\n").encode(), ["my.yaml: "]),
    (
        "a billion laughs in a value",
        ("seed:\n- " + BOMB.replace("\n", "\n  ") + "\n").encode(),
        ["seed", "should be a whole number"],
    ),
]


@pytest.mark.parametrize(("content", "expected"), [row[1:] for row in YAML], ids=[row[0] for row in YAML])
def test_wrong_configs(content: bytes, expected: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("my.yaml").write_bytes(content)
    said = line_of(capsys, ["study", "sample", "--config", "my.yaml"])
    assert [part for part in [*expected, *(["my.yaml"] if "recipe" not in said else [])] if part not in said] == [], (
        said
    )
    assert len(said) < 400
    assert not Path("bad").exists()


WRONG: list[object] = [
    *(
        -1,
        0,
        0.5,
        1e9,
        10**30,
        math.inf,
        math.nan,
        True,
        "",
        "word",
        "1.5",
        b"\xff",
        None,
        [],
        [1],
        [1, 2, 3],
        ["a", "b"],
    ),
    *({}, {"a": 1}, object()),
]


@pytest.mark.parametrize("name", sorted({command.settings for command in cli.COMMANDS.values()}))
def test_no_message_is_the_parser_s_own(name: str) -> None:
    """Whatever a setting is given, what it should have been is said in our words."""
    kind = getattr(settings, name)
    seen = set()
    for field in kind.model_fields:
        for value in WRONG:
            try:
                kind.model_validate({field: value})
            except ValidationError as error:
                for one in error.errors():
                    if one["loc"][:1] != (field,) or one["type"] == "extra_forbidden":
                        continue
                    said = settings.should(one)
                    seen.add(said)
                    assert said.startswith(("should be ", "has too few values", "is missing", "--")), (
                        field,
                        value,
                        one,
                    )
    assert len(seen) > 2


def test_settings_are_compared_only_once_all_are_known() -> None:
    """A flag that suits the config's values need not suit the defaults."""
    from twoviews.command_line import parse

    Path("my.yaml").write_text("batch_size: 1024\nview_size: 80\n")
    words = ["sample", "--config", "my.yaml", "--chunk-size", "512", "--devices", "200", "--first-view-size", "64"]
    got = parse("pretrain", "PretrainCommand", words)
    assert (got.batch_size, got.chunk_size, got.devices, got.first_view_size) == (1024, 512, 200, 64)


def test_what_may_differ_between_two_starts_exists() -> None:
    known = StudyCommand.model_fields.keys() | PretrainCommand.model_fields.keys()
    assert FREE.keys() <= known
    assert all(reason for reason in FREE.values())
