"""The charts in a real browser: pointing, zooming and keys show what metrics.jsonl says."""

from __future__ import annotations

import json

import numpy as np
import pytest
from fixture_charts import classifier_rows, pretraining_rows, write_rows
from fixture_more import add_label_curve

from twoviews.report import style
from twoviews.report.page import write_report

EPOCHS = 24
READY = "[data-charts=ready]"
LOSS = "[data-chart=supervised] .ch-panel:nth-child(1)"
ACCURACY = "[data-chart=finetune] .ch-panel:nth-child(2)"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Stages with curves, and with a label curve; no test stage, so that charts are all that answers."""
    folder = tmp_path_factory.mktemp("runs") / "study-sample"
    rows = classifier_rows(EPOCHS)
    noise = np.random.default_rng(0).normal(size=EPOCHS)
    for row, shift in zip(rows, noise, strict=True):
        row["val_loss"] += 0.4 * shift
    rows[9]["val_loss"] = float("nan")
    write_rows(folder / "supervised", rows)
    write_rows(folder / "finetune", classifier_rows(EPOCHS, 0.2))
    write_rows(folder / "pretrain", pretraining_rows(20))
    tops = {"supervised": 0.55, "finetuned": 0.6, "linear_probe": 0.58}
    models = {
        name: {"test_top1": top, "std": 0.01, "ci95": [top - 0.02, top + 0.02], "per_seed": [top - 0.01, top + 0.01]}
        for name, top in tops.items()
    }
    compared = {"finetuned_minus_supervised": {"points": 5.0, "ci95": [1, 9]}}
    results = {"data": {"classes": ["a"] * 10}, "models": models, "comparison": compared, "seeds": [0, 1]}
    (folder / "results.json").write_text(json.dumps(results))
    return add_label_curve(folder, seeds=2)


@pytest.fixture(scope="module")
def file(study):
    """The page, with blank pictures of the size they have: drawing them takes most of a page's time."""

    def blank(figure):
        width, height = 72 * figure.get_size_inches()
        return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"/>'.encode()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "svg", blank)
        return write_report(study)


def rows_of(study, stage):
    return {row["epoch"]: row for row in map(json.loads, (study / stage / "metrics.jsonl").read_text().splitlines())}


def x_of(page, panel, epoch):
    return page.locator(f"{panel} .ch-plot").evaluate("(plot, x) => plot.placeOf(x)", epoch)


def values(page, panel):
    return page.locator(f"{panel} .ch-values").inner_text().replace("\n", " ").replace("−", "-").split()


def said(page):
    return page.locator(".ch-live").text_content().replace("−", "-")


def middle(page, panel):
    box = page.locator(f"{panel} .ch-plot").bounding_box()
    return box["y"] + box["height"] / 3


def drag(page, panel, epochs):
    (start, end), y = (x_of(page, panel, epoch) for epoch in epochs), middle(page, panel)
    page.mouse.move(start, y)
    page.mouse.down()
    page.mouse.move((start + end) / 2, y + 9)
    page.mouse.move(end, y + 20)
    page.mouse.up()


def test_pointing_dragging_and_keys_on_curves(study, file, open_page):
    page = open_page(file, ready=READY)
    page.locator(LOSS).scroll_into_view_if_needed()
    before, after = rows_of(study, "supervised"), rows_of(study, "finetune")
    last = ["training", f"{before[EPOCHS]['train_loss']:.3f}", "validation", f"{before[EPOCHS]['val_loss']:.3f}"]
    assert values(page, LOSS) == ["Epoch", str(EPOCHS), *last]
    frame, picture = page.evaluate(
        "['.ch-body', 'img'].map((name) => JSON.stringify("
        "document.querySelector('[data-chart=supervised] ' + name).getBoundingClientRect()))"
    )
    assert frame == picture  # nothing moved when the chart came
    for epoch in (1, 7, 10, 23):
        page.mouse.move(x_of(page, LOSS, epoch) + 3, middle(page, LOSS))
        own = "–" if epoch == 10 else f"{before[epoch]['val_loss']:.3f}"
        expected = ["training", f"{before[epoch]['train_loss']:.3f}", "validation", own]
        assert values(page, LOSS) == ["Epoch", str(epoch), *expected]
        # The other stage's charts follow.
        tops = [f"{100 * after[epoch][key]:.1f}%" for key in ("train_top1", "val_top1")]
        assert values(page, ACCURACY) == ["Epoch", str(epoch), "training", tops[0], "validation", tops[1]]
    whole = [x_of(page, LOSS, epoch) for epoch in (5, 11)]
    drag(page, LOSS, (4.6, 11.4))
    assert said(page) == "Epochs 5 to 11 of 24."
    zoomed = [x_of(page, LOSS, epoch) for epoch in (5, 11)]
    assert zoomed[1] - zoomed[0] == pytest.approx((whole[1] - whole[0]) * 23 / 6.8, rel=0.03)
    page.mouse.move(2, 2)
    assert values(page, ACCURACY)[:2] == ["Epoch", "11"]
    page.keyboard.press("Escape")
    assert [x_of(page, LOSS, epoch) for epoch in (5, 11)] == whole
    assert said(page) == "All epochs."
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    both = f"training {before[2]['train_loss']:.3f}, validation {before[2]['val_loss']:.3f}"
    assert said(page) == f"Epoch 2: {both}"
    top = page.evaluate("scrollY")
    page.mouse.move(x_of(page, LOSS, 5), middle(page, LOSS))
    page.mouse.wheel(0, 120)
    page.wait_for_function("(top) => scrollY > top", arg=top)


@pytest.mark.slow
def test_buttons_double_click_and_keys_zoom(file, open_page):
    page = open_page(file, ready=READY)
    page.locator(LOSS).scroll_into_view_if_needed()
    every = page.get_by_role("button", name="Show all epochs").first
    assert every.is_disabled()
    width = x_of(page, LOSS, 14) - x_of(page, LOSS, 11)
    page.get_by_role("button", name="Zoom in").first.click()
    assert x_of(page, LOSS, 14) - x_of(page, LOSS, 11) == pytest.approx(2 * width, rel=0.02)
    every.click()
    assert x_of(page, LOSS, 14) - x_of(page, LOSS, 11) == pytest.approx(width)
    drag(page, LOSS, (9.2, 9.6))
    assert said(page) == "Too few epochs there to zoom in."
    drag(page, LOSS, (20.5, 2.5))  # backwards
    assert said(page) == "Epochs 3 to 20 of 24."
    page.keyboard.press("End")  # out of sight: the window follows
    assert values(page, LOSS)[1] == "24"
    page.mouse.dblclick(x_of(page, LOSS, 20), middle(page, LOSS))
    assert said(page) == "All epochs."
    assert x_of(page, LOSS, 14) - x_of(page, LOSS, 11) == pytest.approx(width)


@pytest.mark.slow
def test_what_was_measured_every_fifth_epoch_is_said_to_be_unknown_between(file, open_page):
    page = open_page(file, ready=READY)
    loss, rank = "[data-chart=pretrain-loss]", "[data-chart=pretrain-effective_rank]"
    page.locator(loss).scroll_into_view_if_needed()
    page.mouse.move(x_of(page, loss, 11), middle(page, loss))
    assert values(page, rank) == ["Epoch", "11", "–"]
    page.mouse.move(x_of(page, loss, 15), middle(page, loss))
    assert values(page, rank)[2] != "–"
    # Pointing at what has few points finds the nearest.
    page.mouse.move(x_of(page, rank, 11), middle(page, rank))
    assert values(page, rank)[1] == "10"


@pytest.mark.slow
def test_the_label_curve_answers_too(study, file, open_page):
    page = open_page(file, ready=READY)
    panel = "[data-chart=labels]"
    point = json.loads((study / "results.json").read_text())["label_curve"][1]
    page.locator(panel).scroll_into_view_if_needed()
    page.mouse.move(x_of(page, panel, 300) + 20, middle(page, panel))
    text = " ".join(values(page, panel))
    assert text.startswith("30 labels a class Baseline")
    for name in ("supervised", "linear_probe", "finetuned"):
        model = point["models"][name]
        low, high = (f"{100 * end:.1f}" for end in model["ci95"])
        assert f"{100 * model['test_top1']:.1f}% ({low} – {high})" in text


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_nothing_serious_in_charts(file, open_page, serious, scheme, width):
    page = open_page(file, ready=READY, color_scheme=scheme, viewport={"width": width, "height": 844})
    page.locator(f"{LOSS} .ch-plot").focus()
    page.keyboard.press("ArrowRight")
    assert serious(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.slow
def test_without_script_and_on_paper_there_are_pictures(file, chromium, open_page):
    context = chromium.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto(file.as_uri())
    assert page.locator("[data-chart] > img").first.is_visible()
    assert page.locator(".ch-body").count() == 0
    assert not page.locator(".ch-hint").is_visible()
    context.close()
    page = open_page(file, ready=READY)
    assert not page.locator("[data-chart] > img").first.is_visible()
    page.emulate_media(media="print")
    assert page.locator("[data-chart] > img").first.is_visible()
    assert not page.locator(".ch-body").first.is_visible()
