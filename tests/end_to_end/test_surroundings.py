"""What a study does beside its work: it reaches nothing, leaves nothing, and takes a name for a name."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from html.parser import HTMLParser

from real_commands import CLASSES, SECRET, TOKEN, fresh


def test_no_connection_is_tried(watched):
    assert watched.connections.read_text() == ""


def test_the_block_stops_and_records_connections(watched):
    """Otherwise an empty record would prove nothing."""
    record = watched.connections.with_name("of this test")
    for words in ("socket.create_connection(('127.0.0.1', 9))", "socket.getaddrinfo('example.com', 80)"):
        done = subprocess.run(
            [sys.executable, "-c", f"import socket; {words}"],
            env={**watched.environment, "CONNECTIONS": str(record)},
            capture_output=True,
            text=True,
        )
        assert "no network here" in done.stderr
    assert record.read_text().count("\n") == 2


def test_only_the_run_folder_and_the_cache_are_written(watched):
    tops = {name for name in watched.made if name.count("/") == 0}
    assert tops == {"output", "data"}
    assert {name for name in watched.made if name.count("/") == 1} == {"output/study-photos", "data/cache"}


def test_nothing_is_left_among_the_users_files(watched):
    # Two things come with what we are built on: matplotlib's list of the machine's fonts, as for any program that
    # draws with it, and a folder with nothing in it, which torch makes when it starts.
    ours = {name for name in watched.places if "matplotlib" not in name}
    assert {name for name in ours if not name.startswith("TMPDIR/torchinductor_")} <= {"HOME/.cache", "HOME/.config"}
    assert not any(name.count("/") > 1 for name in ours)


def test_a_home_that_can_not_be_is_not_needed(watched, tmp_path):
    places = {name: "/dev/null/nowhere" for name in watched.environment if name.startswith(("HOME", "XDG_"))}
    shutil.copytree(watched.study, tmp_path / "study")
    out = tmp_path / "homeless.html"
    done = fresh("report", "study", "--out", out, cwd=tmp_path, env={**watched.environment, **places})
    assert done.returncode == 0, done.stderr
    assert out.exists()
    assert watched.connections.read_text() == ""


def test_the_users_images_are_untouched(watched):
    before, after = watched.photos
    assert before == after


class Page(HTMLParser):
    """The elements of a page, with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_hostile_names_are_text_in_the_report(study):
    page = Page((study / "report.html").read_text(encoding="utf-8"))
    for name in CLASSES:
        assert name in page.text
    policy = next(given["content"] or "" for tag, given in page.elements if tag == "meta" and "http-equiv" in given)
    scripts = [given for tag, given in page.elements if tag == "script"]
    # Those of maps and curves, which the policy names, and the data of each.
    assert len(scripts) == 4
    assert all(given.get("type") == "application/json" or f"'nonce-{given['nonce']}'" in policy for given in scripts)
    for tag, attributes in page.elements:
        assert not any(name.startswith("on") for name in attributes)
        assert tag != "img" or (attributes["src"] or "").startswith("data:image/")


def test_no_cell_is_a_formula(study):
    quoted = set()
    for file in study.rglob("*.csv"):
        with open(file, newline="") as stream:
            for row in csv.reader(stream):
                assert not [cell for cell in row if cell.startswith(("=", "+", "@", "\t", "\r"))], file
                quoted.update(cell for cell in row if cell.startswith("'"))
    assert quoted == {"'=upright"}


def test_every_json_file_is_plain_json(study):
    files = [*study.rglob("*.json"), *study.rglob("*.jsonl")]
    assert len(files) > 10
    for file in files:
        for text in file.read_text(encoding="utf-8").splitlines() if file.suffix == ".jsonl" else [file.read_text()]:
            json.loads(text, parse_constant=no_json)


def no_json(word: str) -> None:
    raise AssertionError(f"{word} is no JSON")


def test_secrets_of_images_and_environment_are_in_no_file_of_ours(watched, photos):
    assert SECRET.encode() in (photos / "test" / "level" / "001.png").read_bytes()
    assert TOKEN in watched.environment.values()
    for file in watched.work.rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        assert SECRET.encode() not in content, file
        assert TOKEN.encode() not in content, file
