"""What the docs name is there: tests, files and headings; and each command in them is one that would be taken."""

from __future__ import annotations

import ast
import re
import shlex
from contextlib import suppress
from pathlib import Path

import pytest

from twoviews import cli
from twoviews.command_line import parse
from twoviews.errors import CheckpointError, DataError

REPO = Path(__file__).parents[1]
RELIABILITY = REPO / "docs" / "reliability.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
ROW = re.compile(r"^\| ([A-I]\d+) \|(.*)\|(.*)\|(.*)\|$", re.MULTILINE)
STATES = {"tested", "tested in part", "by design", "does not apply", "limit"}


def names_in(file: Path) -> set[str]:
    return {node.name for node in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)}


def test_every_test_that_is_named_is_there() -> None:
    named = [match for page in (REPO / "docs").rglob("*.md") for match in NAMED.findall(page.read_text("utf-8"))]
    assert len(named) > 50
    missing = [
        f"{file}::{name}" for file, name in named if not (REPO / file).is_file() or name not in names_in(REPO / file)
    ]
    assert missing == []


def test_every_row_of_the_table_has_a_state_and_what_is_tested_a_test() -> None:
    rows = ROW.findall(RELIABILITY.read_text(encoding="utf-8"))
    assert len({row for row, *_ in rows}) == len(rows) > 100
    for row, happens, tests, state in rows:
        assert happens.strip(), row
        assert state.strip() in STATES, (row, state)
        assert not state.strip().startswith("tested") or NAMED.search(tests), row


def pages() -> list[Path]:
    return [*REPO.glob("*.md"), *(REPO / "docs").rglob("*.md"), *(REPO / "benchmarks").glob("*.md")]


def heading_anchor(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def test_links_lead_to_files_and_headings_that_are_there() -> None:
    broken, found = [], 0
    for page in pages():
        for target in re.findall(r"\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"", page.read_text("utf-8")):
            file, _, anchor = (target[0] or target[1]).partition("#")
            if file.startswith(("http:", "https:")):
                continue
            found += 1
            there = (page.parent / file) if file else page
            headings = re.findall(r"^#+ (.+)$", there.read_text("utf-8"), re.MULTILINE) if anchor else []
            if not there.exists() or (anchor and anchor not in map(heading_anchor, headings)):
                broken.append(f"{page.name}: {file}#{anchor}")
    assert found > 50
    assert broken == []


def commands(start: str) -> list[str]:
    """Whole command lines in the docs, of code blocks and between backticks; those with an ellipsis are left out."""
    found = []
    for page in pages():
        text = page.read_text("utf-8").replace("\\\n", " ")
        blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        lines = [line for block in blocks for line in block.splitlines()]
        lines += [" ".join(words.split()) for words in re.findall(r"`([^`]+)`", re.sub(r"(?ms)^```.*?^```", "", text))]
        lines = [re.split(r" #|&&| \| |; ", line)[0].strip() for line in lines]
        found += [line for line in lines if line.startswith(start) and not re.search(r"…|\.\.\.|\[|\bN\b", line)]
    return sorted(set(found))


def test_each_command_in_them_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    taken = 0
    for line in commands("twoviews "):
        name, *words = shlex.split(line)[1:]
        if name.startswith("-") or "--help" in words or not words:
            continue
        assert name in cli.COMMANDS, line
        with suppress(DataError, CheckpointError):  # the folders that it names are not here
            parse(name, cli.COMMANDS[name].settings, words)
        taken += 1
    assert taken > 25


def test_each_script_in_them_has_the_options_that_it_is_given() -> None:
    asked = 0
    for line in commands("python benchmarks/"):
        script, *words = shlex.split(line.removeprefix("python "))
        source = (REPO / script).read_text("utf-8")
        for flag in (word for word in words if word.startswith("--")):
            assert f'"{flag}"' in source, line
            asked += 1
    assert asked > 30
