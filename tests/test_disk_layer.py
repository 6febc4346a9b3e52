"""Nothing changes the disk but through ``twoviews.disk``, so that its tests speak of every write there is."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import twoviews

ROOT = Path(twoviews.__file__).parent
CHANGES = {
    "os": {"remove", "unlink", "rename", "replace", "renames", "mkdir", "makedirs", "rmdir", "removedirs", "link",
           "symlink", "truncate", "chmod", "chown", "utime", "ftruncate"},
    "shutil": {"rmtree", "move", "copy", "copy2", "copyfile", "copytree", "make_archive", "unpack_archive", "chown"},
    "tempfile": {"mkstemp", "mkdtemp", "NamedTemporaryFile", "TemporaryFile", "TemporaryDirectory"},
}  # fmt: skip
METHODS = {"write_text", "write_bytes", "unlink", "mkdir", "rmdir", "touch", "rename", "symlink_to", "hardlink_to"}
ALLOWED = {
    ("disk.py", None),
    ("stages/bench_images.py", "TemporaryDirectory"),  # random images to time, gone when the command ends
    ("stages/measure.py", "write_text"),  # a switch of the system's under /proc
    ("streams.py", "open"),  # os.devnull, in the place of a stream that is closed
}


def changes(source: str) -> list[str]:
    """Calls in a module that change the disk."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Attribute):
            owner = called.value.id if isinstance(called.value, ast.Name) else ""
            if called.attr in CHANGES.get(owner, set()) or (called.attr in METHODS and owner not in ("disk", "files")):
                found.append(called.attr)
        name = called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")
        if name in ("open", "fdopen"):
            words = [w.value for w in [*node.args, *(k.value for k in node.keywords)] if isinstance(w, ast.Constant)]
            # A mode is a short word of its letters; "re" of tarfile and the like read.
            if any(isinstance(w, str) and set(w) <= set("rwaxbt+") and set(w) & set("wax+") for w in words):
                found.append("open")
    return found


@pytest.mark.parametrize(
    "source",
    [
        "open(path, 'w')",
        "open(path, mode='ab')",
        "path.open('x')",
        "os.replace(a, b)",
        "shutil.rmtree(a)",
        "Path(a).write_text('x')",
        "tempfile.mkstemp()",
        "path.unlink(missing_ok=True)",
    ],
)
def test_the_search_finds_writes(source: str) -> None:
    assert changes(source)


@pytest.mark.parametrize(
    "source", ["open(path)", "open(path, 'rb')", "text.replace('a', 'b')", "files.write_text(a, b)"]
)
def test_the_search_leaves_reads(source: str) -> None:
    assert not changes(source)


def test_nothing_else_changes_the_disk() -> None:
    others = []
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        for call in changes(path.read_text(encoding="utf-8")):
            if not {(name, None), (name, call)} & ALLOWED:
                others.append(f"{name}: {call}")
    assert not others, others
