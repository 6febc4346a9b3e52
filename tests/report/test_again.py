"""What a page says about doing a run again: which settings are its own, seeds, time, versions and machine."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest
import yaml
from fixture_study import HOSTILE

from twoviews import recipes
from twoviews.report.again.machine import environment, seeds_say, times
from twoviews.report.again.section import again_section
from twoviews.report.again.settings import changed_settings, default_settings, recipe_of
from twoviews.report.page import write_report
from twoviews.report.run import load
from twoviews.settings import PretrainCommand, StudyCommand

CPU = {"machine": {"device": "cpu", "threads": 2, "gpu": None}}


def run_of(folder, values, surroundings=CPU, command="study"):
    """A run that has only begun, with these settings."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "settings.yaml").write_text(yaml.safe_dump(values))
    (folder / "environment.json").write_text(json.dumps({"command": f"twoviews {command} x", **surroundings}))
    return load(folder)


def merged(under, over):
    return {k: {**v, **over.get(k, {})} if isinstance(v, dict) else over.get(k, v) for k, v in under.items()}


def study_settings(data, **more):
    """What ``twoviews study DATA`` resolves to; ``pretrain={…}`` and the like win over the recipe."""
    values = merged(recipes.recipe_settings(data, None), more)
    values |= {key: value for key, value in more.items() if key not in values}
    return StudyCommand.model_validate({"data": data, **values}).model_dump(mode="json")


def by_key(run):
    return {one.key: (one.here, one.default, one.origin) for one in changed_settings(run)}


@pytest.mark.parametrize("name", ["sample", "cifar10", "cifar10_as_stl10", "stl10"])
def test_of_a_recipe_s_run_nothing_but_the_recipe_differs(tmp_path, name):
    found = changed_settings(run_of(tmp_path, study_settings(name)))
    own, of_recipe = ([one for one in found if one.is_recipe is side] for side in (False, True))
    # The name of the data set is no part of its recipe.
    assert [(one.key, one.here, one.origin) for one in own] == (
        [("data", name, "this run")] if name != "sample" else []
    )
    assert found == own + of_recipe
    assert {one.origin for one in of_recipe} <= {f"recipe {name}"}
    defaults, wanted = default_settings(), set()
    for key, value in recipes.RECIPES[name].settings.items():
        for dotted, part in (
            {f"{key}.{k}": v for k, v in value.items()}.items() if isinstance(value, dict) else [(key, value)]
        ):
            part = list(part) if isinstance(part, tuple) else part
            wanted |= {dotted} if part != defaults[dotted] else set()
    assert {one.key for one in of_recipe} == wanted


def test_a_run_s_own_settings_come_first_and_say_what_the_recipe_has(tmp_path):
    values = study_settings("sample", seeds=3, pretrain={"epochs": 7, "blur": 0.5}, cache="elsewhere", out="there")
    found = changed_settings(run_of(tmp_path, values))
    assert {one.key: (one.here, one.default, one.origin) for one in found[:3]} == {
        "seeds": ("3", "1", "this run"),
        "pretrain.epochs": ("7", "100", "this run; the recipe has 50"),
        # Back at the default, but not as the recipe has it.
        "pretrain.blur": ("0.5", "0.5", "this run; the recipe has 0"),
    }
    assert all(one.is_recipe for one in found[3:])
    assert not {"cache", "out"} & {one.key for one in found}


def test_what_time_or_tuning_changed_is_told_from_what_was_asked(tmp_path):
    run_of(tmp_path, study_settings("sample", minutes=5.0, tune=4))
    for stage, own in (("pretrain", {"epochs": 12}), ("finetune", {"base_lr": 0.07, "epochs": 20})):
        (tmp_path / stage).mkdir()
        (tmp_path / stage / "settings.yaml").write_text(yaml.safe_dump({**own, "seed": 99, "odd": 1}))
    found = by_key(load(tmp_path))
    assert found["pretrain.epochs"] == ("12", "100", "--minutes; asked for 50")
    assert found["finetune.base_lr"] == ("0.07", "0.2", "--tune; asked for 0.05")
    assert found["finetune.epochs"] == ("20", "60", "--tune or --minutes; asked for 60")
    assert "seed" not in found


@pytest.mark.parametrize(
    ("asked", "device", "recipe"),
    [
        ("auto", "cuda", "folder"),
        ("auto", "mps", "folder-cpu"),
        ("auto", "cpu", "folder-cpu"),
        ("cpu", "cpu", "folder-cpu"),
        ("auto", None, None),
    ],
)
def test_a_folder_s_recipe_is_told_by_the_device_where_that_tells(tmp_path, asked, device, recipe):
    values = {**study_settings("folder-cpu"), "data": "photos", "device": asked}
    run = run_of(tmp_path, values, {"machine": {"device": device}} if device else {})
    found = recipe_of(run)
    assert (found and found.name) == recipe
    table = again_section(run, "").changed
    assert table.header[-1] == ("From" if recipe else "Default")
    assert ("the folder does not tell" in table.caption) == (recipe is None)
    minutes = next(row for row in table.rows if row[0] == "minutes")
    assert minutes[1:] == ["30", "–", *({"folder": ["this run"], "folder-cpu": ["recipe folder-cpu"]}.get(recipe, []))]


def test_a_stage_is_compared_with_its_own_command(tmp_path):
    values = PretrainCommand(data="stl10", epochs=200, temperature=0.1).model_dump(mode="json")
    run = run_of(tmp_path, values, command="pretrain")
    assert run.kind == "pretrain"
    assert by_key(run) == {
        "data": ("stl10", "sample", "this run"),
        "epochs": ("200", "100", "this run"),
        "temperature": ("0.1", "0.2", "this run"),
    }


@pytest.mark.parametrize(
    "values", [{"seed": 0}, {"data": ["a"], "pretrain": None, 3: {"x": {}}}, {"data": "x", "recipe": HOSTILE}]
)
def test_settings_of_no_use_are_no_error(tmp_path, values):
    section = again_section(run_of(tmp_path, values), "")
    if values == {"seed": 0}:
        assert section.changed is None
        assert section.unchanged == "Every setting is at its default."


def test_seeds_are_said(tmp_path):
    def said(**values):
        return seeds_say(run_of(tmp_path, values))

    assert said(seed=4) == "Seed 4: all that is random follows from it."
    three = "Seeds 4, 5 and 6, a training each: all that is random follows from its seed. "
    assert said(seed=4, seeds=3) == three + "They share one pretraining, that of seed 4."
    assert said(seed=4, seeds=3, pretrain_seeds=True) == three + "Each has its own pretraining too."
    assert said(seed=0, seeds=10).startswith("Seeds 0 to 9, a training each")
    assert said(data="x") == ""


def test_times_so_far_of_a_study_that_stopped(tmp_path):
    run_of(tmp_path, {"seed": 0, "seeds": 2})
    noted = {"seed0/supervised": 10.0, "seed0/labels-10/supervised": 5.0, "seed1/supervised": 11.0, "tune/finetune": 90}
    (tmp_path / "seconds.json").write_text(json.dumps(noted))
    (tmp_path / "seed0" / "supervised").mkdir(parents=True)
    rows = [json.dumps({"epoch": i, "seconds": 1.0, "images_per_second": 100.0 * i}) for i in (1, 2, 3)]
    (tmp_path / "seed0" / "supervised" / "timing.jsonl").write_text("\n".join(rows))
    table = times(load(tmp_path))
    assert table.rows == [
        ["Supervised baseline", "", "26 s", "200"],
        ["tune", "", "1 min 30 s", ""],
        ["All so far", "", "1 min 56 s", ""],
    ]
    (tmp_path / "seconds.json").write_text("[1")
    run = load(tmp_path)
    assert times(run).rows == [["Supervised baseline", "", "3.0 s", "200"]]
    assert "seconds.json can't be read" in run.problems[0]


def test_times_that_overlap_are_said_to(tmp_path):
    (tmp_path / "seconds.json").write_text(json.dumps({"supervised": 10.0}))
    run_of(tmp_path, {"seed": 0, "jobs": 1})
    assert "at once" not in times(load(tmp_path)).caption
    run_of(tmp_path, {"seed": 0, "jobs": 4})
    assert "Up to 4 trainings ran at once (--jobs)" in times(load(tmp_path)).caption


def test_versions_and_machine_of_later_starts_are_said_where_they_differ(tmp_path):
    def start(torch, threads, when):
        return {"torch": torch, "machine": {"threads": threads, "memory_gb": 16, "gpu": None}, "started": when}

    resumes = [start("2.1", 2, "Tuesday"), start("2.2", 1, "Friday"), "damaged"]
    run = run_of(tmp_path, {"seed": 0}, {**start("2.1", 2, "Monday"), "resumes": resumes})
    assert environment(run).rows == [
        ["torch", "2.1; later also 2.2"],
        ["threads", "2; later also 1"],
        ["memory", "16 GB"],
        ["resumed", "2 times, the last time Friday"],
    ]
    assert [row[0] for row in environment(run_of(tmp_path, {}, start("2.1", 2, "Monday"))).rows] == [
        "torch",
        "threads",
        "memory",
    ]


class Section(HTMLParser):
    """The text of the section, and what of it is folded."""

    def __init__(self, html):
        super().__init__()
        self.open, self.folded = "", ""
        self.inside = False
        self.tags = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.inside |= tag == "details"

    def handle_endtag(self, tag):
        self.inside &= tag != "details"

    def handle_data(self, data):
        if self.inside:
            self.folded += f" {data.strip()}"
        else:
            self.open += f" {data.strip()}"


def test_the_page_folds_all_settings_and_needs_no_script_for_it(tmp_path):
    values = study_settings("sample", seeds=3)
    run_of(tmp_path, values, {**CPU, "torch": "2.14.1"}, command="study sample --seeds 3 #")
    html = write_report(tmp_path).read_text(encoding="utf-8")
    section = Section(html[html.index('<section id="again">') : html.index("<footer>")])
    assert "script" not in section.tags
    for said in (
        "twoviews study sample --seeds 3",
        "Seeds 0, 1 and 2",
        "2.14.1",
        "pretrain.projection_hidden 512 –",
        "recipe sample",
    ):
        assert said in " ".join(section.open.split())
    folded = " ".join(section.folded.split())
    total = sum(len(v) if isinstance(v, dict) else 1 for v in values.values())
    assert folded.startswith(f"All {total} settings")
    for key, value in values.items():
        assert all(f" {one} " in folded for one in (value if isinstance(value, dict) else [key]))
    assert "max_pixels" not in section.open
