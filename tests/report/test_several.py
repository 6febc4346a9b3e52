"""The page that compares studies: what it says follows from their files, and what can't be compared it says too."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from fixture_more import add_label_curve, several_seeds
from fixture_page import Page
from fixture_several import (
    another,
    change_correct,
    comparable_study,
    cut_test,
    edit_predictions,
    read_correct,
    write_digests,
)
from fixture_study import stop_early

from twoviews import cli
from twoviews.errors import DataError, SettingsError
from twoviews.evaluation.significance import mcnemar_exact, paired_bootstrap
from twoviews.files import read_json
from twoviews.report import style
from twoviews.report.pictures import Picture
from twoviews.report.run import load
from twoviews.report.several import page as several
from twoviews.report.several.headline import headline, helped_says, study_names
from twoviews.report.several.pairs import Pair, Pairing
from twoviews.report.several.settings import differing_settings, differing_surroundings
from twoviews.settings import ReportCommand
from twoviews.stages import report
from twoviews.stages.compare_studies import compare_studies
from twoviews.stages.report import run_report


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    return comparable_study(tmp_path_factory.mktemp("several") / "narrow")


@pytest.fixture(scope="module")
def second(first):
    return another(first, first.parent / "wide", gained=30, lost=4, backbone="resnet18", pretrain__temperature=0.1)


@pytest.fixture
def quick(monkeypatch):
    """Pages without their figures, for what is about words."""
    monkeypatch.setattr(several, "embed", lambda figure, alt: Picture("data:image/svg+xml;base64,", alt))
    monkeypatch.setattr(style, "png_and_svg", lambda figure: (b"pixels", b"shapes"))


def compared(*folders: Path) -> Pairing:
    return compare_studies([load(folder) for folder in folders], study_names(folders))


def drawn(*folders: Path, out: Path | None = None) -> tuple[Path, Page]:
    path = run_report(ReportCommand(runs=folders, out=out))
    return path, Page(path.read_text(encoding="utf-8"))


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


# The page. -------------------------------------------------------------------------------------------------------


def test_the_command_writes_one_page_beside_the_first_study(first, second, capsys):
    assert cli.main(["report", str(first), str(second)]) == 0
    page = first.parent / "comparison.html"
    assert capsys.readouterr().out == f"report: {page}\n"
    text = Page(page.read_text(encoding="utf-8")).text
    # 26 of 200 images more, and nothing between the two settings folders but what was changed.
    assert "wide is ahead: its fine-tuned model’s accuracy is 13.0 percentage points higher than that of narrow" in text
    for said in ("on the same 200 test images", "backbone", "resnet18", "pretrain.temperature", "12 min 38 s"):
        assert said in text
    assert "weight_decay" not in text
    assert "not finished" not in text
    assert not (first / "report.html").exists()
    before = page.read_bytes()
    drawn(first, second)
    assert page.read_bytes() == before  # ours, so it is drawn anew, the same


def test_it_loads_nothing_and_runs_nothing_whatever_folders_and_settings_are_called(first, tmp_path):
    hostile = another(first, tmp_path / "<img src=x onerror=alert(1)>", recipe="</style><script>alert(2)</script>")
    _, page = drawn(first, hostile, out=tmp_path / "page.html")
    assert page.policy == (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    assert not {"script", "iframe", "object", "link", "form"} & set(page.tags)
    assert page.loads
    assert all(address.startswith("data:image/svg+xml;base64,") for address in page.loads)
    assert "<img src=x onerror=alert(1)>" in page.text
    assert "</style><script>alert(2)</script>" in page.text


@pytest.mark.slow
def test_comparing_and_exporting_load_no_torch():
    code = (
        "import sys, twoviews.report.several.page, twoviews.stages.compare_studies, twoviews.stages.export_map;"
        "assert not {'torch', 'timm', 'sklearn', 'matplotlib.pyplot', 'pyarrow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)


def test_unfinished_studies_are_compared_as_far_as_they_got(first, second, tmp_path, quick):
    stopped = another(first, tmp_path / "stopped")
    stop_early(stopped)
    _, page = drawn(first, second, stopped, out=tmp_path / "page.html")
    assert "stopped is not finished: finetune (stopped after epoch 12 of 40, step 168), test." in page.text
    assert "stopped has no finished test." in page.text
    assert "wide is ahead" in page.text
    _, page = drawn(first, stopped, out=tmp_path / "page.html")
    assert "Nothing to compare yet: of 2 studies only one has a fine-tuned model that was tested" in page.text


def test_label_curves_stand_on_one_axis(first, second, tmp_path, quick):
    curves = [add_label_curve(another(study, tmp_path / study.name), seeds=1) for study in (first, second)]
    _, page = drawn(*curves, first, out=tmp_path / "page.html")
    assert "How few labels?" in page.text
    assert "Labels in all" in page.text
    assert "100 46.9% / 34.2% 46.9% / 34.2%" in page.text
    assert "How few labels?" not in drawn(first, second, out=tmp_path / "page.html")[1].text


def test_one_run_and_none_give_the_report_of_one(first, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(report, "write_report", lambda run, out: run / "report.html" if out is None else out)
    shutil.copytree(first, tmp_path / "output" / "study-x")
    assert cli.main(["report"]) == 0
    assert cli.main(["report", "here", "--out", "there.html"]) == 0
    several_seeds(tmp_path / "output" / "study-x")
    (tmp_path / "output" / "study-x" / "seed1" / "test" / "results.json").touch()
    assert cli.main(["report"]) == 0
    pages = ["output/study-x/report.html", "there.html", "output/study-x/report.html"]
    assert capsys.readouterr().out == "".join(f"report: {page}\n" for page in pages)


# What is refused. ------------------------------------------------------------------------------------------------


def test_the_same_run_twice_is_refused(first, tmp_path):
    (tmp_path / "link").symlink_to(first)
    for again in (first, first / ".." / first.name, tmp_path / "link"):
        with pytest.raises(SettingsError, match="are the same run: name each study once"):
            run_report(ReportCommand(runs=(first, again)))


def test_what_is_no_study_is_refused(first, tmp_path):
    with pytest.raises(DataError, match="There is no run folder"):
        run_report(ReportCommand(runs=(first, tmp_path / "nowhere")))
    with pytest.raises(DataError, match="holds no run"):
        run_report(ReportCommand(runs=(first, tmp_path)))
    with pytest.raises(SettingsError, match=r"pretrain is one stage \(pretrain\), and studies are compared"):
        run_report(ReportCommand(runs=(first, first / "pretrain")))


def test_a_file_that_is_not_ours_is_left_as_it_is(first, second, tmp_path, quick):
    mine = tmp_path / "comparison.html"
    mine.write_text("<h1>my notes</h1>")
    with pytest.raises(SettingsError, match="is no comparison of twoviews: name another file with --out"):
        run_report(ReportCommand(runs=(first, second), out=mine))
    assert mine.read_text() == "<h1>my notes</h1>"
    with pytest.raises(SettingsError, match="is a folder: name the file to write"):
        run_report(ReportCommand(runs=(first, second), out=tmp_path))
    # One of ours is drawn anew.
    drawn(first, second, out=tmp_path / "ours.html")
    assert "narrow is ahead" not in drawn(second, first, out=tmp_path / "ours.html")[1].text


def test_its_figures_lie_beside_it_with_the_numbers_they_show(first, second, tmp_path, quick):
    curved = add_label_curve(another(first, tmp_path / "curved"), seeds=1)
    page, content = drawn(curved, second, out=tmp_path / "page.html")
    made = {path.name for path in tmp_path.glob("page-*")}
    assert made == {f"page-{name}.{kind}" for name in ("accuracy", "label_curve") for kind in ("png", "svg", "csv")}
    assert "CSV: page-accuracy , page-label_curve ." in content.text
    tops = {(row["study"], row["model"]): float(row["test_top1"]) for row in rows(tmp_path / "page-accuracy.csv")}
    shown = ("finetuned", "supervised", "linear_probe", "random_init_linear_probe")
    models = {study.name: read_json(study / "results.json")["models"] for study in (curved, second)}
    assert tops == {(study, name): found[name]["test_top1"] for study, found in models.items() for name in shown}
    points = {
        (row["study"], row["labels"], row["model"]): float(row["test_top1"])
        for row in rows(tmp_path / "page-label_curve.csv")
    }
    wanted = {
        ("curved", f"{point['labels']:g}", name): row["test_top1"]
        for point in read_json(curved / "results.json")["label_curve"]
        for name, row in point["models"].items()
    }
    assert points == {key: top for key, top in wanted.items() if key[2] in {name for _, _, name in points}}
    assert {name for _, _, name in points} >= {"supervised", "finetuned"}
    # Drawn anew of studies without a label curve, it has none beside it either.
    drawn(first, second, out=page)
    assert {path.name for path in tmp_path.glob("page-*")} == {
        f"page-accuracy.{kind}" for kind in ("png", "svg", "csv")
    }


def test_figures_that_are_not_ours_are_left_as_they_are(first, second, tmp_path, quick):
    mine = tmp_path / "page-accuracy.csv"
    mine.write_text("my own")
    with pytest.raises(
        SettingsError, match=r"page-accuracy\.csv is there and is no figure of page\.html: name another"
    ):
        run_report(ReportCommand(runs=(first, second), out=tmp_path / "page.html"))
    assert [path.name for path in tmp_path.iterdir()] == ["page-accuracy.csv"]
    assert mine.read_text() == "my own"
    mine.unlink()
    page, _ = drawn(first, second, out=tmp_path / "page.html")
    other = tmp_path / "page-label_curve.csv"
    other.write_text("my own")  # the page has no such figure
    with pytest.raises(SettingsError, match="is no figure of page"):
        run_report(ReportCommand(runs=(first, second), out=page))
    assert other.read_text() == "my own"


# What is compared, and how. --------------------------------------------------------------------------------------


def test_a_pair_is_what_the_two_models_did_on_each_image(first, second):
    pairing = compared(first, second)
    a, b = (read_correct(folder / "test") for folder in (first, second))
    (pair,) = pairing.pairs
    assert pair.points == pytest.approx(100 * (a.mean() - b.mean())) == pytest.approx(-13)
    assert (pair.low, pair.high) == paired_bootstrap(a, b)[1:]
    assert pair.p == mcnemar_exact(a, b)
    assert (pairing.images, pairing.level, pair.sign, pair.seeds) == (200, 0.95, -1, 1)
    back = pair.seen_from(1)
    assert (back.points, back.low, back.high, back.sign) == (-pair.points, -pair.high, -pair.low, 1)


def test_with_three_studies_every_interval_is_wider(first, second, tmp_path):
    third = another(first, tmp_path / "third", gained=3)
    pairing = compared(first, second, third)
    assert [(pair.a, pair.b) for pair in pairing.pairs] == [(0, 1), (0, 2), (1, 2)]
    assert pairing.level == pytest.approx(1 - 0.05 / 3)
    alone = compared(first, second).pairs[0]
    assert pairing.pairs[0].low < alone.low
    assert pairing.pairs[0].high > alone.high


def test_seeds_are_paired_with_the_same_seed(first, tmp_path):
    a, b = (several_seeds(another(first, tmp_path / name), seeds=3) for name in ("a", "b"))
    for seed in range(3):
        change_correct(b / f"seed{seed}" / "test", gained=20 + seed, lost=5)
    (pair,) = compared(a, b).pairs
    assert pair.seeds == 3
    assert pair.p is None
    assert pair.points == pytest.approx(-100 * (15 + 16 + 17) / 3 / 200)
    shutil.rmtree(b / "seed0")
    change_correct(a / "seed0" / "test", gained=0, lost=100)  # has no partner now
    (pair,) = compared(a, b).pairs
    assert (pair.seeds, pair.points) == (2, pytest.approx(-100 * (16 + 17) / 2 / 200))
    for name in ("seed1", "seed2"):
        shutil.rmtree(a / name)
    (pair,) = compared(a, b).pairs  # seed 0 against seed 1: one pair of models
    assert pair.seeds == 1
    assert pair.p is not None


@pytest.mark.parametrize("what", ["number", "name", "label", "pixels", "correct"])
def test_other_test_images_are_not_compared_and_the_page_says_why(first, tmp_path, what):
    mine, other, said = another(first, tmp_path / "mine"), another(first, tmp_path / "other", gained=40), ""
    if what == "number":
        cut_test(other / "test", 100)
        said = "100 and 200 test images"
    if what == "name":
        edit_predictions(other / "test", 7, file="test/else.png")
        said = "1 of 200 have other names, first test/else.png"
    if what == "label":
        edit_predictions(other / "test", 7, label="truck")
        said = "1 of 200 have other labels, first test/00007"
    if what == "pixels":
        write_digests(mine, 200)
        write_digests(other, 200, changed=11)
        said = "1 of 200 have other pixels, first test/00011"
    reason = f"other and mine were not tested on the same images: {said}."
    if what == "correct":
        (other / "test" / "correct.npz").write_bytes(b"damaged")
        reason = "other holds no readable test/correct.npz."
    pairing = compared(mine, other)
    assert pairing.pairs == []
    assert pairing.left_out == [reason]
    said = headline(["mine", "other"], [load(mine).results, load(other).results], pairing)
    assert (said.kind, said.lead) == ("untested", "Not comparable image by image")


def test_pixels_count_only_where_images_have_one_size(first, tmp_path):
    a, b = (another(first, tmp_path / name, image_size=size) for name, size in (("a", 32), ("b", 64)))
    write_digests(a, 200)
    write_digests(b, 200, changed=3)
    assert len(compared(a, b).pairs) == 1


def test_of_several_test_sets_the_one_that_most_studies_share_is_compared(first, second, tmp_path):
    other = another(first, tmp_path / "other")
    cut_test(other / "test", 100)
    pairing = compared(other, first, second)
    assert pairing.group == [1, 2]
    assert pairing.left_out == ["other and narrow were not tested on the same images: 100 and 200 test images."]


# What differs. ---------------------------------------------------------------------------------------------------


def test_only_what_differs_is_shown_and_a_stage_s_own_setting_wins(first, second, tmp_path):
    third = another(first, tmp_path / "third", out="elsewhere")
    (third / "pretrain" / "settings.yaml").write_text(yaml.safe_dump({"epochs": 33, "batch_size": 256, "odd": 1}))
    environment = (third / "environment.json").read_text()
    (third / "environment.json").write_text(environment.replace('"cores": 2', '"cores": 64'))
    runs = [load(folder) for folder in (first, second, third)]
    assert differing_settings(runs) == {
        "pretrain.epochs": ["60", "60", "33"],
        "pretrain.temperature": ["0.2", "0.1", "0.2"],
        "backbone": ["–", "resnet18", "–"],  # not in the others' settings, and not the default
    }
    assert differing_surroundings(runs) == {"machine, cores": ["2", "2", "64"]}
    assert differing_settings([runs[0], runs[0]]) == {}


def test_names_tell_folders_apart():
    paths = [Path(name) for name in ("/x/one/study", "/y/one/study", "/y/two/other")]
    assert study_names(paths) == ["x/one/study", "y/one/study", "other"]


# What the headline says. -----------------------------------------------------------------------------------------


def said_of(*pairs: Pair, tops: tuple[float, ...] = (0.5, 0.6, 0.7)) -> tuple[str, str, str]:
    places = sorted({place for pair in pairs for place in (pair.a, pair.b)})
    pairing = Pairing(places, 2000, list(pairs), 0.95, "some method", [])
    results = [{"models": {"finetuned": {"test_top1": top}}} for top in tops]
    found = headline(["A", "B", "C"], results, pairing)
    return found.kind, found.lead, found.sentence


def test_the_headline_of_two_studies():
    ahead = said_of(Pair(0, 1, -3.0, -5.0, -1.0, 0.002, -1, 1))
    assert ahead == (
        "ahead",
        "B is ahead",
        "its fine-tuned model’s accuracy is 3.0 percentage points higher than that of A, on the same 2,000 test images "
        "(95% interval +1.0 to +5.0; McNemar p = 0.002).",
    )
    kind, lead, sentence = said_of(Pair(0, 1, 0.4, -1.2, 2.0, 0.64, 0, 1))
    assert (kind, lead) == ("unclear", "No difference that this test can see")
    assert sentence.startswith("the fine-tuned model of A is 0.4 percentage points more accurate than that of B on")
    assert sentence.endswith("anything from 1.2 points less to 2.0 points more for A fits these results.")
    assert said_of(Pair(0, 1, 1.5, 0.1, 2.9, 0.06, None, 1))[:2] == ("unclear", "Too close to call")
    assert "are equally accurate" in said_of(Pair(0, 1, 0.0, -1.0, 1.0, 1.0, 0, 1))[2]
    assert "mean accuracy is" in said_of(Pair(0, 1, 3.0, 1.0, 5.0, None, 1, 3))[2]


def test_the_headline_of_three_studies():
    b_c, a_c = Pair(1, 2, -4.0, -6.0, -2.0, 0.001, -1, 1), Pair(0, 2, -9.0, -11.0, -7.0, 0.001, -1, 1)
    a_b = Pair(0, 1, -5.0, -7.0, -3.0, 0.001, -1, 1)
    kind, lead, sentence = said_of(a_b, a_c, b_c)
    assert (kind, lead) == ("ahead", "C is ahead of the others")
    assert sentence == (
        "C has the highest accuracy after fine-tuning, 70.0%; on the same 2,000 test images it is above "
        "B (+4.0, +2.0 to +6.0) and A (+9.0, +7.0 to +11.0)."
    )
    open_ = Pair(1, 2, -0.5, -2.0, 1.0, 0.5, 0, 1)
    kind, lead, sentence = said_of(a_b, a_c, open_)
    assert (kind, lead) == ("unclear", "No study is ahead of all others")
    assert "it is above A (+9.0, +7.0 to +11.0), and not told apart from B (+0.5, −1.0 to +2.0)." in sentence
    assert said_of(Pair(0, 1, 0.1, -1, 1, 0.9, 0, 1), Pair(0, 2, 0.1, -1, 1, 0.9, 0, 1), open_)[1] == (
        "No difference that this test can see"
    )


def test_each_study_s_own_gain_is_said_by_its_verdict():
    def results(points: float, low: float, high: float, p: float) -> dict:
        compared = {"points": points, "ci95": [low, high], "mcnemar_p": p}
        return {"seeds": [0], "comparison": {"finetuned_minus_supervised": compared}}

    rows = [results(6.4, 4, 8, 0.001), results(0.3, -2, 2, 0.8), results(-5, -8, -2, 0.001), {}]
    assert helped_says(["A", "B", "C", "D"], rows) == (
        "Fine-tuned, each study against its own baseline, in points: pretraining helped in A (+6.4); "
        "it hurt in C (−5.0); the test can’t tell in B (+0.3)."
    )
    assert helped_says(["D"], [{}]) == ""
