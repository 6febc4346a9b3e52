"""Files of `twoviews predict`: nothing of another folder is replaced, and the model is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from twoviews.errors import SettingsError
from twoviews.files import write_csv
from twoviews.stages.predictions import (
    COLUMNS,
    RECORD,
    better_probe,
    predictions_file,
    remember,
    require_ours,
    rows,
    which_model,
)


def wrote(run: Path, folder: Path) -> str:
    file = predictions_file(run, folder)
    remember(file, folder)
    file.write_text(str(folder))
    return file.name


def test_each_folder_keeps_its_file_whatever_it_is_called(tmp_path: Path) -> None:
    run, may, june = tmp_path / "run", tmp_path / "may/new pics", tmp_path / "june/new pics"
    for folder in (run, may, june):
        folder.mkdir(parents=True)
    assert wrote(run, may) == "predictions-new pics.csv"
    assert wrote(run, june) == "predictions-new pics-2.csv"
    assert wrote(run, may) == "predictions-new pics.csv"  # the same folder's may be replaced
    assert wrote(run, june / ".." / "new pics") == "predictions-new pics-2.csv"
    assert (run / "predictions-new pics.csv").read_text() == str(may)


@pytest.mark.parametrize("record", [None, "[", "[]", '{"predictions-pics.csv": 5}'])
def test_a_file_of_unknown_origin_stays(tmp_path: Path, record: str | None) -> None:
    (tmp_path / "predictions-pics.csv").write_text("by hand")
    if record is not None:
        (tmp_path / RECORD).write_text(record)
    assert wrote(tmp_path, tmp_path / "pics") == "predictions-pics-2.csv"
    assert (tmp_path / "predictions-pics.csv").read_text() == "by hand"


def test_out_replaces_what_predict_wrote_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    require_ours(out)
    write_csv(out, COLUMNS, rows([("a.png", "cat", 0.5)], [("b.png", "empty file")]))
    assert out.read_text() == "file,class,confidence,left_out\na.png,cat,0.5000,\nb.png,,,empty file\n"
    require_ours(out)
    out.write_text("file,class,confidence\na.png,cat,0.5\n")  # of an earlier version
    require_ours(out)
    out.write_text("file,label\na.png,cat\n")
    with pytest.raises(SettingsError, match=r"out\.csv is there, and `predict` did not write it: name another file"):
        require_ours(out)
    with pytest.raises(SettingsError, match="is a folder: name a file"):
        require_ours(tmp_path)


def test_the_model_is_named_with_its_accuracy_where_it_is_known(tmp_path: Path) -> None:
    test = tmp_path / "study/test/results.json"
    test.parent.mkdir(parents=True)
    models = {"finetuned": {"test_top1": 0.5934}, "supervised": {"test_top1": 0.5}}
    test.write_text(json.dumps({"models": models}))

    def of(run: str) -> str:
        return which_model(tmp_path / run / "models/classifier.safetensors")

    assert of("study/finetune") == "the fine-tuned model (test accuracy 59.3 %)"
    assert of("study/supervised") == "the supervised baseline (test accuracy 50.0 %)"
    assert of("study/imagenet") == "the model fine-tuned from ImageNet's weights"
    assert of("finetune-photos") == "the fine-tuned model"
    assert which_model(tmp_path / "a/b.safetensors") == str(tmp_path / "a/b.safetensors")
    assert better_probe(tmp_path / "study", tmp_path / "study/finetune/models/classifier.safetensors") == ""
    test.write_text(json.dumps({"models": {**models, "linear_probe": {"test_top1": 0.61}}}))
    probe = tmp_path / "study/features/linear_probe.safetensors"
    assert which_model(probe) == "the linear probe on frozen features (test accuracy 61.0 %)"
    hint = better_probe(tmp_path / "study", tmp_path / "study/finetune/models/classifier.safetensors")
    assert "right more often (61.0 %)" in hint
    assert f"`twoviews predict {probe.parent} FOLDER`" in hint
    # Who asked for one model by name is not told of another.
    asked = tmp_path / "study/finetune"
    assert better_probe(asked, asked / "models/classifier.safetensors") == ""
    assert better_probe(probe.parent, probe) == ""
    test.write_text("{}")
    assert of("study/finetune") == "the fine-tuned model"
