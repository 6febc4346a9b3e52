"""The command line: what wins over what, what is refused and how, and the flags that people's scripts rely on."""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from twoviews import cli, recipes, settings
from twoviews.command_line import flags, from_values, parse
from twoviews.errors import SettingsError


def parsed(command: str, *words: object) -> Any:
    return parse(command, cli.COMMANDS[command].settings, [str(word) for word in words])


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No output/ of an earlier run in sight."""
    monkeypatch.chdir(tmp_path)


def config(content: dict[str, Any]) -> Path:
    Path("my.yaml").write_text(yaml.safe_dump(content))
    return Path("my.yaml")


# How settings are typed. --------------------------------------------------------------------------------------------


def test_a_stage_of_a_study_names_the_study_s_flags() -> None:
    study = settings.StudyCommand()
    known = {"study": set(flags(settings.StudyCommand))}
    for name, kind in (
        ("supervised", "SupervisedCommand"),
        ("pretrain", "PretrainCommand"),
        ("finetune", "FinetuneCommand"),
    ):
        of_study = settings.stage_settings(getattr(settings, kind), study, getattr(study, name))
        alone, known[name] = getattr(settings, kind)(), set(flags(getattr(settings, kind)))
        assert (of_study.group, alone.group) == (name, None)
        for key in type(getattr(study, name)).model_fields:
            assert of_study.flag(key) == f"--{name}.{key.replace('_', '-')}"
            assert of_study.model_copy(update={"epochs": 1}).flag(key) in known["study"]
            assert alone.flag(key) == f"--{key.replace('_', '-')}" in known[name]
        for key in ("image_size", "devices", "backbone"):
            assert of_study.flag(key) == alone.flag(key) in known["study"]


@pytest.mark.parametrize(("command", "prefix"), [("study", "pretrain."), ("pretrain", "")])
def test_a_check_within_a_group_names_flags_that_exist(command: str, prefix: str) -> None:
    words = [f"--{prefix}chunk-size", "512", f"--{prefix}batch-size", "256"]
    with pytest.raises(SettingsError, match=rf"--{prefix}chunk-size 512 is above --{prefix}batch-size 256; leave it"):
        parsed(command, *words)


# What wins over what. -----------------------------------------------------------------------------------------------


def test_a_flag_wins_over_config_over_recipe_over_default() -> None:
    default = settings.PretrainCommand()
    assert (default.epochs, default.view_size, default.blur, default.temperature) == (100, None, 0.5, 0.2)
    recipe = parsed("pretrain", "sample")
    said = recipes.RECIPES["sample"].settings["pretrain"]
    assert said["epochs"] != default.epochs
    assert (recipe.epochs, recipe.view_size, recipe.blur) == (said["epochs"], said["view_size"], said["blur"])
    assert recipe.temperature == default.temperature
    file = config({"epochs": 9, "view_size": 28})
    configured = parsed("pretrain", "sample", "--config", file)
    assert (configured.epochs, configured.view_size, configured.blur, configured.temperature) == (9, 28, 0.0, 0.2)
    flagged = parsed("pretrain", "sample", "--config", file, "--epochs", 3)
    assert (flagged.epochs, flagged.view_size, flagged.blur, flagged.temperature) == (3, 28, 0.0, 0.2)


def test_the_same_within_a_stage_of_a_study() -> None:
    file = config({"pretrain": {"epochs": 9, "view_size": 28}})
    study = parsed("study", "sample", "--config", file, "--pretrain.epochs", 3)
    assert (study.pretrain.epochs, study.pretrain.view_size, study.pretrain.blur) == (3, 28, 0.0)
    # The recipe's, in a stage that the config does not name.
    assert study.supervised.base_lr == recipes.RECIPES["sample"].settings["supervised"]["base_lr"]
    assert study.pretrain.momentum == 0.9


def test_a_switch_can_be_turned_either_way_over_a_config() -> None:
    for value in (True, False):
        file = config({"keep_leaks": value})
        assert parsed("pretrain", "sample", "--config", file).keep_leaks is value
        assert parsed("pretrain", "sample", "--config", file, "--keep-leaks").keep_leaks is True
        assert parsed("pretrain", "sample", "--config", file, "--no-keep-leaks").keep_leaks is False


def test_the_recipe_goes_with_the_data_wherever_it_is_named() -> None:
    file = config({"data": "cifar10"})
    assert parsed("pretrain", "cifar10").backbone == "resnet18"
    from_config = parsed("pretrain", "--config", file)
    assert (from_config.data, from_config.backbone) == ("cifar10", "resnet18")
    # Even the default, where it is named, wins over the config.
    named = parsed("pretrain", "sample", "--config", file)
    assert (named.data, named.backbone) == ("sample", "resnet18_w16")
    by_name = parsed("pretrain", "sample", "--recipe", "cifar10")
    assert (by_name.data, by_name.backbone) == ("sample", "resnet18")


def test_a_command_on_a_run_takes_the_run_s_data_and_backbone() -> None:
    run = Path("output/pretrain-cifar10")
    (run / "models").mkdir(parents=True)
    (run / "models/backbone.safetensors").touch()
    of_run = {"data": "cifar10", "backbone": "resnet34", "seed": 3, "epochs": 500, "init": "timm", "device": "cuda"}
    (run / "settings.yaml").write_text(yaml.safe_dump(of_run))
    for words in ([], [run]):  # the newest run, or by name
        got = parsed("finetune", *words)
        assert (got.data, got.backbone, got.seed) == ("cifar10", "resnet34", 3)
        assert (got.epochs, got.init, got.device) == (100, None, "auto")  # the recipe's and the defaults
    assert parsed("finetune", run, "--backbone", "resnet50", "--seed", 0).backbone == "resnet50"
    assert parsed("features", run, "--data", "sample").data == "sample"


@pytest.mark.parametrize(
    ("device", "backbone"), [("auto", "resnet50"), ("cuda", "resnet50"), ("cpu", "resnet18"), ("mps", "resnet18")]
)
def test_a_folder_s_recipe_goes_by_the_device(
    device: str, backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("twoviews.command_line.first_look", lambda found: None)
    config = tmp_path / "mine.yaml"
    config.write_text(f"device: {device}\n")
    for words in (["--device", device], ["--config", str(config)]):
        assert parsed("study", tmp_path / "photos", *words).backbone == backbone


def test_parts_named_one_by_one_have_a_folder_s_recipe(tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / "photos" / part / "cat").mkdir(parents=True)
    parts = ["--train", tmp_path / "photos/train", "--test", tmp_path / "photos/test"]
    folder = parsed("study", tmp_path / "photos")
    assert folder.backbone != parsed("study").backbone
    for words in ([], ["sample"]):  # DATA has a default, and says nothing here
        named = parsed("study", *words, *parts)
        assert named.data == "sample"
        rest = {"data", "train", "test"}
        assert named.model_dump(exclude=rest) == folder.model_dump(exclude=rest)
    from_python = from_values("study", "StudyCommand", {"train": parts[1], "test": parts[3]})
    assert from_python == parsed("study", *parts)


def test_from_python_it_can_be_called_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """No module of ours takes the place of a public name once it is loaded."""
    twoviews = importlib.import_module("twoviews")
    for module in pkgutil.iter_modules(twoviews.__path__):
        assert module.name not in twoviews.__all__
    asked = []
    monkeypatch.setattr("twoviews.run_study.run_study", asked.append)
    for seed in (1, 2):
        twoviews.study("sample", seed=seed)
    assert [settings.seed for settings in asked] == [1, 2]


def test_from_python_a_folder_may_be_a_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    twoviews, asked = importlib.import_module("twoviews"), []
    monkeypatch.setattr("twoviews.run_study.run_study", asked.append)
    (tmp_path / "test").mkdir()
    for data in (tmp_path, str(tmp_path)):
        twoviews.study(data)
    assert asked[0] == asked[1]
    with pytest.raises(twoviews.TwoviewsError, match="data: should be text"):
        twoviews.study(3)


def test_public_names_are_listed_before_they_are_loaded() -> None:
    code = "import sys, twoviews; print(set(twoviews.__all__) <= set(dir(twoviews)), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_from_python_the_same_rules_hold() -> None:
    got = from_values("study", "StudyCommand", {"data": "sample", "pretrain": {"epochs": 3}, "seed": 2})
    assert got == parsed("study", "sample", "--pretrain.epochs", 3, "--seed", 2)
    with pytest.raises(SettingsError, match=r"^pretrain\.epoch: no such setting; did you mean pretrain\.epochs\?"):
        from_values("study", "StudyCommand", {"pretrain": {"epoch": 3}})


# What is refused. ---------------------------------------------------------------------------------------------------


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one line on stderr of a command that ends with exit code 2."""
    assert cli.main([str(word) for word in words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("\n")
    assert err.count("\n") == 1
    assert err.startswith("twoviews: ")
    return err.removeprefix("twoviews: ").strip()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["study", "--pretrain.epoch", "5"],
            "--pretrain.epoch: no such setting; did you mean --pretrain.epochs? (`twoviews study --help` lists them)",
        ),
        (
            ["pretrain", "sample", "--temprature=0.1"],
            "--temprature: no such setting; did you mean --temperature? (`twoviews pretrain --help` lists them)",
        ),
        (
            ["pretrain", "--pretrain.epochs", "5"],
            "--pretrain.epochs: no such setting; did you mean --epochs? (`twoviews pretrain --help` lists them)",
        ),
        (
            ["study", "--epochs", "5"],
            "--epochs: no such setting; did you mean --finetune.epochs or --pretrain.epochs or --supervised.epochs? "
            "(`twoviews study --help` lists them)",
        ),
        (["check", "--qqq"], "--qqq: no such setting (`twoviews check --help` lists them)"),
        (["study", "--pretrain.epochs", "0"], "--pretrain.epochs: should be at least 1 (got 0)"),
        (["pretrain", "--max-bad", "1.5"], "--max-bad: should be at most 1 (got 1.5)"),
        (["pretrain", "--temperature", "nan"], "--temperature: should be a finite number (got nan)"),
        (["pretrain", "--temperature", "0"], "--temperature: should be above 0 (got 0.0)"),
        (["pretrain", "--batch-size", "1"], "--batch-size: should be at least 2 (got 1)"),
        (["supervised", "--batch-size", "1"], "--batch-size: should be at least 2 (got 1)"),
        (["pretrain", "--chunk-size", "1"], "--chunk-size: should be at least 2 (got 1)"),
        (["pretrain", "--crop-scale", "0.5", "0.2"], "--crop-scale 0.5 0.2: should rise from above 0 to at most 1"),
        (["pretrain", "--epochs", "many"], "--epochs: should be a whole number (got 'many')"),
        (["study", "--device", "gpu"], "--device: should be one of auto, cpu, cuda, mps (got 'gpu')"),
        (["pretrain", "--epochs"], "--epochs: needs a value"),
        (["pretrain", "--crop-scale", "0.5"], "--crop-scale: needs 2 values"),
        (
            ["pretrain", "sample", "stl10"],
            "not understood: stl10; quote a path that has spaces (`twoviews pretrain --help` explains)",
        ),
        (["predict"], "predict needs RUN and FOLDER; `twoviews predict --help` explains."),
        (["pretrain", "--recipe", "imagenet"], "--recipe imagenet: no such recipe; there are "),
        (["pretrian"], "pretrian: no such command; did you mean `twoviews pretrain`?"),
        (["pretrain", "--config", "none.yaml"], "none.yaml can't be read (No such file or directory)."),
    ],
)
def test_what_is_wrong_is_said_in_one_line(words: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, *words)
    assert said.startswith(expected) if expected.endswith(" ") else said == expected


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_terminal_s_characters_do_not_matter(encoding: str) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    words = [sys.executable, "-m", "twoviews", "study", "--device", "gpu"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 2
    assert done.stderr == "twoviews: --device: should be one of auto, cpu, cuda, mps (got 'gpu')\n"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"pretrain": {"epoch": 5}}, "my.yaml: pretrain.epoch: no such setting; did you mean pretrain.epochs? "),
        ({"epochs": 5}, "my.yaml: epochs: no such setting; did you mean supervised.epochs or pretrain.epochs or "),
        ({"sede": 5}, "my.yaml: sede: no such setting; did you mean seed? "),
        ({"pretrain": {"epochs": -1}}, "my.yaml: pretrain.epochs: should be at least 1 (got -1)"),
        ({"seed": "often"}, "my.yaml: seed: should be a whole number (got 'often')"),
        ({"pretrain": 5}, "my.yaml: pretrain: should be settings, one per line (got 5)"),
    ],
)
def test_a_config_is_checked_as_strictly_as_flags(
    content: dict[str, Any], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(capsys, "study", "sample", "--config", config(content)).startswith(expected)


def test_no_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "usage: twoviews COMMAND" in capsys.readouterr().out


# Help, and the flags. -----------------------------------------------------------------------------------------------


def test_help_loads_neither_torch_nor_the_parser() -> None:
    code = """
import sys
from twoviews.cli import main
assert main(["--help"]) == 0
loaded = {name.partition(".")[0] for name in sys.modules}
assert not loaded & {"torch", "tyro", "pydantic", "numpy", "timm", "yaml"}, loaded
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for command in cli.COMMANDS:
        assert f"\n  {command} " in done.stdout


def test_a_command_s_help_loads_no_torch() -> None:
    code = """
import sys
from twoviews.cli import main
try:
    main(["study", "--help"])
except SystemExit as stop:
    assert stop.code == 0
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "--pretrain.epochs" in done.stdout


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_setting_is_described_so_that_the_parser_reads_no_source_for_it(command: str) -> None:
    kind = getattr(settings, cli.COMMANDS[command].settings)
    groups = [field.annotation for field in kind.model_fields.values() if isinstance(field.annotation, type)]
    for one in [kind, *(group for group in groups if issubclass(group, settings.Settings))]:
        assert [name for name, field in one.model_fields.items() if not field.description] == []


DATA = "unlabeled train val test image-size val-fraction keep-leaks no-keep-leaks data-root cache max-bad max-pixels"
DATA += " follow-links no-follow-links drop-near no-drop-near"
MODEL = "backbone stem init"
LABELS = "labels-per-class label-fraction fold"
EVIDENCE = "seeds pretrain-seeds no-pretrain-seeds labels-per-class label-fractions folds no-folds jobs tune"
EVIDENCE += " with-imagenet no-with-imagenet sgd-probe no-sgd-probe"
RUN = "out new no-new fork no-fork seed device precision devices threads recipe config minutes"
RUN += " deterministic no-deterministic"
TRAINING = "epochs batch-size optimizer base-lr lr-scaling momentum weight-decay warmup-epochs clip-grad-norm view-size"
TRAINING += " first-view-size crop-scale jitter jitter-strength grayscale blur blur-sigma checkpoint-minutes"
TRAINING += " decay-all no-decay-all on-spike cuda-graphs no-cuda-graphs torch-compile no-torch-compile"
SUPERVISED = f"{TRAINING} label-smoothing"
PRETRAIN = f"{TRAINING} loss temperature projection-layers projection-hidden projection-width chunk-size monitor-epochs"
FINETUNE = f"{TRAINING} label-smoothing backbone-lr-scale freeze-backbone no-freeze-backbone probe-start no-probe-start"
FINETUNE += " head-layers"
FEATURES = "perplexity clusters max-images maps no-maps"
MAPS = "map-splits umap no-umap"
COMMON = f"{DATA} {MODEL} {RUN}"

# People's scripts hold these. A flag that goes or changes its name needs an entry in CHANGELOG.md.
FLAGS = {
    "study": " ".join(
        [
            f"{COMMON} {EVIDENCE} {MAPS}",
            *(f"supervised.{flag}" for flag in SUPERVISED.split()),
            *(f"pretrain.{flag}" for flag in PRETRAIN.split()),
            *(f"features.{flag}" for flag in FEATURES.split()),
            *(f"finetune.{flag}" for flag in FINETUNE.split()),
        ]
    ),
    "check": f"{DATA} seed out",
    "supervised": f"{COMMON} {LABELS} {SUPERVISED}",
    "pretrain": f"{COMMON} {PRETRAIN}",
    "features": f"{COMMON} {LABELS} data {FEATURES}",
    "finetune": f"{COMMON} {LABELS} data {FINETUNE}",
    "test": f"{COMMON} {LABELS} {MAPS} data maps no-maps",
    "report": "out",
    "predict": "out device precision cache max-bad",
    "export": "to out",
    "export-map": "to out backbone features no-features",
    "replay": "device precision threads",
    "bench": "backbone stem image-size view-size batch-size steps unlabeled device precision threads json no-json"
    " cuda-graphs no-cuda-graphs torch-compile no-torch-compile",
}


@pytest.mark.parametrize("command", sorted(FLAGS.keys() | cli.COMMANDS.keys()))
def test_the_flags_are_those_that_were_promised(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    promised = {f"--{flag}" for flag in FLAGS[command].split()}
    kind = getattr(settings, cli.COMMANDS[command].settings)
    assert set(flags(kind)) == promised
    # The list that errors and suggestions go by is what the parser takes.
    monkeypatch.setenv("COLUMNS", "90")
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0
    heads = re.findall(r"^[│ ]*(?:-h, )?((?:--[a-z][\w.-]*(?:, )?)+)", capsys.readouterr().out, re.MULTILINE)
    assert {flag for head in heads for flag in head.split(", ")} == promised | {"--help"}


def help_of(command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "90")  # wider, two boxes stand side by side
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    return " ".join(capsys.readouterr().out.replace("│", " ").split())


def test_help_shows_a_default_only_where_it_is_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = help_of("study", capsys, monkeypatch)
    assert "(default: sample)" in study
    for flag in ("--backbone MODEL", "--image-size INT", "--pretrain.epochs INT", "--minutes FLOAT"):
        assert re.search(rf"{flag} [^(]*\(default: by recipe\)", study), flag
    assert re.search(r"--pretrain.temperature FLOAT [^(]*\(default: 0.2\)", study)
    assert re.search(r"--features.perplexity FLOAT [^(]*\(default: 30.0\)", study)
    for command in cli.COMMANDS:
        shown = study if command == "study" else help_of(command, capsys, monkeypatch)
        assert "{None}" not in shown, command
        assert "default: None" not in shown, command
        assert "(default: )" not in shown, command
        assert not re.search(r"\bSTR\b", shown), command


def test_help_names_what_is_given_by_place(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "usage: twoviews predict [-h] [OPTIONS] RUN FOLDER " in help_of("predict", capsys, monkeypatch)
    features = help_of("features", capsys, monkeypatch)
    assert "[RUN]" in features
    assert "--data DATA data set or folder; default: the run's --unlabeled PATH" in features
    assert re.search(r"--backbone MODEL [^(]*\(default: the run's\)", features)
