"""The explorer in a real browser: what a hand, the keys and a screen reader find is what the run's files say."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from fixture_explore import add_explorable, colour_of, read_index
from fixture_study import HOSTILE, write_study

from twoviews.report.explore.neighbours import nearest
from twoviews.report.page import write_report

IMAGES = 400

# Moves the pressed hand once a frame, 60 times.
PAN = """async ([x, y]) => {
  const canvas = document.elementFromPoint(x, y);
  const next = () => new Promise(requestAnimationFrame);
  await next();
  for (let i = 1; i <= 60; i += 1) {
    const moved = { bubbles: true, clientX: x + i, clientY: y + i / 2, pointerId: 1, pointerType: "mouse", buttons: 1 };
    canvas.dispatchEvent(new PointerEvent("pointermove", moved));
    await next();
  }
}"""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    names = ["cat", "dog", "<b>bird</b>", HOSTILE, "ship"]
    return add_explorable(write_study(tmp_path_factory.mktemp("runs") / "study-sample", names, images=IMAGES))


@pytest.fixture(scope="module")
def file(study):
    return write_report(study)


def where(page, image, panel=1):
    return page.evaluate("([map, image]) => document.getElementById('explore').where(map, image)", [panel, image])


def shown_by_card(page):
    """Number of the image whose card is open, the card's text and its picture's colour."""
    return page.evaluate(
        """() => {
          const card = document.querySelector(".ex-card");
          if (card.hidden) return null;
          const canvas = card.querySelector("canvas");
          const [x, y] = [canvas.width / 2, canvas.height / 2];
          const colour = Array.from(canvas.getContext("2d").getImageData(x, y, 1, 1).data.slice(0, 3));
          return [Number(card.dataset.image), card.innerText, colour];
        }"""
    )


def hover_and_check(page, study, images):
    """Point at images; of those that others lie on top of, the nearest one may be the one beneath."""
    index = read_index(study)
    predicted = predictions(study)
    places = np.array([where(page, image) for image in range(IMAGES)])
    exact = 0
    for image in images:
        # The hand moves in whole pixels.
        x, y = np.round(places[image])
        page.mouse.move(x, y)
        found, text, colour = shown_by_card(page)
        away = np.hypot(*(places - [x, y]).T)
        assert away[found] <= away.min() + 0.01
        exact += found == image
        row = index[found]
        assert row["file"] in text
        assert f"Class {row['label']}" in text
        for model in ("supervised", "finetuned", "linear_probe"):
            assert predicted[found][model] in text
        assert tuple(colour) == colour_of(found)
    assert exact >= 0.8 * len(images)


def predictions(study):
    with open(study / "test" / "predictions.csv", encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def files_chosen(page):
    """The images whose pictures the grid shows."""
    return page.eval_on_selector_all(".ex-chosen .ex-pic", "(all) => all.map((one) => Number(one.dataset.image))")


def test_pointing_at_images_shows_them(study, file, open_page):
    hover_and_check(open_page(file), study, np.random.default_rng(0).integers(0, IMAGES, 8).tolist())


@pytest.mark.slow
def test_fifty_random_points_show_the_right_picture(study, file, open_page):
    page = open_page(file, color_scheme="dark", device_scale_factor=2)
    hover_and_check(page, study, np.random.default_rng(1).choice(IMAGES, 50, replace=False).tolist())
    page.mouse.move(2, 2)
    assert shown_by_card(page) is None


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["box", "lasso"])
def test_a_box_and_a_lasso_choose_the_images_within(study, file, open_page, mode):
    page = open_page(file)
    page.locator(f"input[value={mode}]").check(force=True)
    field = page.locator(".ex-field").nth(2).bounding_box()
    left, top = field["x"] + 0.2 * field["width"], field["y"] + 0.3 * field["height"]
    right, bottom = left + 0.35 * field["width"], top + 0.4 * field["height"]
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    page.mouse.move(*corners[0])
    page.mouse.down()
    for x, y in corners[1:3] if mode == "box" else corners[1:]:
        page.mouse.move(x, y)
    page.mouse.up()
    places = np.array([where(page, image, 2) for image in range(IMAGES)])
    inside = ((places > [left, top]) & (places < [right, bottom])).all(axis=1)
    assert 10 < inside.sum() < 240
    assert sorted(files_chosen(page)) == np.flatnonzero(inside).tolist()
    words = "box" if mode == "box" else "loop"
    assert page.locator(".ex-chosen h3").inner_text() == f"{inside.sum()} images in the {words} on Fine-tuned"
    # Shift adds one more; Esc clears.
    outside = int(np.flatnonzero(~inside)[0])
    page.keyboard.down("Shift")
    page.mouse.move(*where(page, outside, 2))
    reached = shown_by_card(page)[0]
    page.mouse.down()
    page.mouse.up()
    page.keyboard.up("Shift")
    assert set(files_chosen(page)) == set(np.flatnonzero(inside).tolist()) ^ {reached}
    page.keyboard.press("Escape")
    page.locator(".ex-field").first.focus()
    page.keyboard.press("Escape")
    assert files_chosen(page) == []


@pytest.mark.slow
def test_search_legend_and_offers_choose_what_they_say(study, file, open_page):
    index, predicted = read_index(study), predictions(study)
    page = open_page(file)
    page.get_by_role("searchbox", name="Find").fill("test/0001")
    page.wait_for_selector(".ex-chosen h3")
    assert sorted(files_chosen(page)) == [i for i, row in enumerate(index) if "test/0001" in row["file"]]
    page.get_by_title("Select class <b>bird</b>").click()
    assert sorted(files_chosen(page)) == [i for i, row in enumerate(index) if row["label"] == "<b>bird</b>"]
    assert page.locator(".ex-chosen b").count() == 0
    page.get_by_role("combobox", name="Show").select_option(label="Fine-tuned right, Baseline wrong")
    expected = [i for i, p in enumerate(predicted) if p["finetuned"] == p["label"] != p["supervised"]]
    assert sorted(files_chosen(page)) == expected
    page.get_by_role("combobox", name="Show").select_option(label="Worst nearest images, SimCLR")
    assert page.locator(".ex-asked").count() == 8
    page.get_by_role("searchbox", name="Find").fill("no such name")
    page.get_by_text("No image with “no such name”.").wait_for(state="attached")
    assert files_chosen(page) == []


@pytest.mark.slow
def test_the_keyboard_goes_from_image_to_image_and_keeps_one(study, file, open_page):
    index = read_index(study)
    labels = [row["label"] for row in index]
    page = open_page(file)
    page.locator("input[name=explore-kind]:checked").focus()
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.className") == "ex-field":
            break
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("Map of Untrained")
    page.keyboard.press("ArrowRight")
    first = shown_by_card(page)[0]
    seen = [first]
    for key, axis, sign in (("ArrowRight", 0, 1), ("ArrowDown", 1, 1), ("ArrowLeft", 0, -1), ("ArrowUp", 1, -1)):
        before = where(page, seen[-1], 0)
        page.keyboard.press(key)
        seen.append(shown_by_card(page)[0])
        moved = np.subtract(where(page, seen[-1], 0), before)
        assert sign * moved[axis] > 0
        assert sign * moved[axis] >= abs(moved[1 - axis])
        assert index[seen[-1]]["file"] in page.locator(".ex-live").inner_text()
    page.keyboard.press("Enter")
    query = seen[-1]
    assert page.locator(".ex-kept .ex-file").inner_text() == index[query]["file"]
    rows = page.locator(".ex-kept .ex-row")
    for row, model in enumerate(("random_init", "pretrained", "finetuned", "supervised")):
        near = nearest(np.load(study / "test" / f"features-{model}.npy"))[query].tolist()
        pictures = rows.nth(row).locator(".ex-pic")
        found = pictures.evaluate_all("(all) => all.map((one) => [Number(one.dataset.image), one.className])")
        assert [image for image, _ in found] == near
        assert ["is-right" in name for _, name in found] == [labels[i] == labels[query] for i in near]
    page.keyboard.press("Space")
    assert files_chosen(page) == [query]
    page.keyboard.press("+")
    page.keyboard.press("0")
    page.keyboard.press("Escape")
    assert page.locator(".ex-kept").inner_text() == ""
    assert files_chosen(page) == []


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_nothing_serious(file, open_page, scheme, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    page = open_page(file, color_scheme=scheme, viewport={"width": width, "height": 844})
    page.locator(".ex-field").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="cat").first.click()
    page.get_by_role("radio", name="Right or wrong").check(force=True)
    found = axe.Axe().run(page).response["violations"]
    serious = [(one["id"], one["nodes"][0]["target"]) for one in found if one["impact"] in ("serious", "critical")]
    assert serious == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.slow
def test_without_script_the_page_points_to_its_pictures(file, chromium):
    context = chromium.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto(file.as_uri())
    assert page.locator(".ex-off").is_visible()
    assert not page.locator(".ex-body").is_visible()
    context.close()


@pytest.mark.slow
def test_thirteen_thousand_images_open_soon_and_pan_smoothly(tmp_path, open_page):
    big = write_report(add_explorable(write_study(tmp_path / "study-big", images=13_000)))
    clocks = []
    page = open_page(big, before=lambda page: clocks.append(processor_seconds(page)))
    spent = clocks[0]
    assert 0.01 < spent() < 5
    page.locator("input[value=move]").check(force=True)
    page.get_by_label("Zoom in on SimCLR").click()
    field = page.locator(".ex-field").nth(1).bounding_box()
    page.mouse.move(field["x"] + 60, field["y"] + 60)
    page.mouse.down()
    before = spent()
    page.evaluate(PAN, [field["x"] + 60, field["y"] + 60])
    assert (spent() - before) / 60 <= 0.1
    page.mouse.up()


def processor_seconds(page):
    """How long the page's own thread has worked: wall-clock time would judge what else the machine does."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def spent() -> float:
        metrics = session.send("Performance.getMetrics")["metrics"]
        return next(one["value"] for one in metrics if one["name"] == "TaskDuration")

    return spent
