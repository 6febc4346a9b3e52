"""What the docs say of tests is so: each test they name is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

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
