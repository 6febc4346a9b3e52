"""The explorer in a real browser: what a hand, the keys and a screen reader find is what the run's files say."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from fixture_explore import (
    add_clusters,
    add_explorable,
    add_labelled,
    add_rich_pictures,
    colour_of,
    read_index,
)
from fixture_study import HOSTILE, write_study

from twoviews.report.explore.neighbours import nearest
from twoviews.report.page import write_report

IMAGES = 400

# Moves the pressed hand once a frame, 60 times; returns the milliseconds between frames.
PAN = """async ([x, y]) => {
  const canvas = document.elementFromPoint(x, y);
  const next = () => new Promise(requestAnimationFrame);
  await next();
  const times = [performance.now()];
  for (let i = 1; i <= 60; i += 1) {
    const moved = { bubbles: true, clientX: x + i, clientY: y + i / 2, pointerId: 1, pointerType: "mouse", buttons: 1 };
    canvas.dispatchEvent(new PointerEvent("pointermove", moved));
    await next();
    times.push(performance.now());
  }
  return times.slice(1).map((time, i) => time - times[i]);
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
    page.get_by_role("combobox", name="Show").select_option(label="24 at random")
    assert len(files_chosen(page)) == 24
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
def test_axe_finds_nothing_serious(file, open_page, serious, scheme, width):
    page = open_page(file, color_scheme=scheme, viewport={"width": width, "height": 844})
    page.locator(".ex-field").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="cat").first.click()
    page.get_by_role("radio", name="Right or wrong").check(force=True)
    assert serious(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.slow
def test_without_script_the_page_points_to_its_pictures(file, chromium):
    context = chromium.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto(file.as_uri())
    assert page.locator(".ex-off").is_visible()
    assert not page.locator(".ex-body").is_visible()
    context.close()


@pytest.fixture(scope="module")
def more(tmp_path_factory):
    """A study with clusters, and with images of training and validation on its maps; and its clusters.npz."""
    folder = add_explorable(write_study(tmp_path_factory.mktemp("runs") / "study-more", ["cat", "dog", "ship"], 300))
    clusters = add_clusters(add_labelled(folder, 80, 20), 4)
    return folder, clusters, write_report(folder)


@pytest.mark.slow
def test_clusters_colour_each_map_by_its_own_and_name_their_commonest_class(more, open_page):
    folder, clusters, file = more
    labels = np.array([row["label"] for row in read_index(folder)])
    page = open_page(file)
    page.get_by_role("radio", name="Cluster").check(force=True)
    assert "arbitrary" in page.locator(".ex-legend").first.inner_text()
    for panel, model in enumerate(("random_init", "pretrained", "finetuned", "supervised")):
        chips = page.locator(".ex-own").nth(panel).locator("button")
        expected = []
        for cluster in range(4):
            members = labels[:300][clusters[model][:300] == cluster]
            names, counts = np.unique(members, return_counts=True)
            expected.append((counts.max(), len(members), set(names[counts == counts.max()])))
        for cluster, (most, size, names) in enumerate(expected):
            number, name, share = chips.nth(cluster).inner_text().replace(":", "").split()
            assert (number, share) == (str(cluster), f"{int(100 * most / size + 0.5)}%")
            assert name in names
    page.get_by_title("Select cluster 2 of SimCLR").click()
    assert sorted(files_chosen(page)) == np.flatnonzero(clusters["pretrained"] == 2).tolist()
    page.mouse.move(*where(page, 7))
    image, text, _ = shown_by_card(page)
    assert f"Cluster {clusters['pretrained'][image]} of SimCLR" in text


@pytest.mark.slow
def test_training_images_say_what_they_are_and_can_be_hidden(more, open_page):
    folder, _, file = more
    index = read_index(folder)
    page = open_page(file)
    places = np.array([where(page, image) for image in range(400)])
    # Images whose own place is the nearest to the pixel under the hand.
    alone = [i for i in range(300, 400) if np.hypot(*(places - np.round(places[i])).T).argmin() == i]
    for image in alone[:3] + alone[-3:]:
        page.mouse.move(*np.round(places[image]))
        found, text, colour = shown_by_card(page)
        assert found == image
        assert index[image]["file"] in text
        part = "training image" if index[image]["split"] == "train" else "validation image"
        assert f"Class {index[image]['label']} · {part}" in text
        assert "Predictions are of test images alone" in text
        assert tuple(colour) == colour_of(image)
    page.mouse.down()
    page.mouse.up()
    row = page.locator(".ex-kept .ex-row").first.locator(".ex-pic")
    assert max(row.evaluate_all("(all) => all.map((one) => Number(one.dataset.image))")) < 300
    page.get_by_title("Select class dog").click()
    assert sorted(files_chosen(page)) == [i for i, one in enumerate(index) if one["label"] == "dog"]
    right = sum(one["finetuned"] == one["label"] == "dog" for one in predictions(folder))
    dogs = sum(one["label"] == "dog" for one in index[:300])
    said = page.locator(".ex-chosen .note").first.inner_text()
    assert said.startswith(f"Right on the {dogs} test images of these: ")
    assert f"Fine-tuned {100 * right / dogs:.1f}%" in said
    page.get_by_role("radio", name="Test only").check(force=True)
    assert files_chosen(page) == []
    assert all(np.isfinite(where(page, image)).all() for image in (0, 299))
    assert where(page, 300)[0] is None or np.isnan(where(page, 300)[0])
    page.get_by_title("Select class dog").click()
    assert sorted(files_chosen(page)) == [i for i, one in enumerate(index[:300]) if one["label"] == "dog"]
    page.get_by_role("radio", name="All", exact=True).check(force=True)
    assert np.allclose(where(page, 300), places[300])


@pytest.mark.slow
def test_thirteen_thousand_images_open_soon_and_pan_smoothly(tmp_path, open_page):
    # STL10's: 8,000 test images, and 5,000 labelled ones, a tenth of them for validation.
    folder = add_labelled(add_explorable(write_study(tmp_path / "study-big", images=8_000)), 4_500, 500)
    add_clusters(folder, 10)
    big = write_report(add_rich_pictures(folder))
    assert big.stat().st_size <= 25_000_000
    clocks = []
    page = open_page(big, before=lambda page: clocks.append(processor_seconds(page)))
    spent = clocks[0]
    opened = spent()
    assert 0.01 < opened < 5
    assert "13,000 images" in page.locator(".ex-field").first.get_attribute("aria-label")
    page.locator("input[value=move]").check(force=True)
    page.get_by_label("Zoom in on SimCLR").click()
    field = page.locator(".ex-field").nth(1).bounding_box()
    page.mouse.move(field["x"] + 60, field["y"] + 60)
    page.mouse.down()
    before = spent()
    frames = page.evaluate(PAN, [field["x"] + 60, field["y"] + 60])
    each = (spent() - before) / 60
    page.mouse.up()
    print(
        f"{big.stat().st_size:,} bytes, opened in {opened:.2f} s of processor time, a move {1000 * each:.0f} ms of it"
    )
    print(f"median time between two frames while panning {np.median(frames):.0f} ms by the clock")
    assert each <= 0.1


def processor_seconds(page):
    """How long the page's own thread has worked: wall-clock time would judge what else the machine does."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def spent() -> float:
        metrics = session.send("Performance.getMetrics")["metrics"]
        return next(one["value"] for one in metrics if one["name"] == "TaskDuration")

    return spent


@pytest.mark.slow
def test_names_on_maps_are_whole_where_there_is_room_and_cut_at_their_end_where_there_is_none(file, open_page):
    def listen(page):
        page.add_init_script(
            "window.written = []; const fill = CanvasRenderingContext2D.prototype.fillText;"
            "CanvasRenderingContext2D.prototype.fillText = function (text, ...at) {"
            " window.written.push(text); return fill.call(this, text, ...at); };"
        )

    page = open_page(file, before=listen)
    written = set(page.evaluate("window.written"))
    assert {"cat", "dog", "ship", "<b>bird</b>"} <= written
    beginnings = {HOSTILE[:23].rstrip() + "…", HOSTILE[:9].rstrip() + "…"}
    assert beginnings & written
    assert written <= beginnings | {"cat", "dog", "ship", "<b>bird</b>", "<b>bird</…"}
