"""Nothing in our source can run code from a file, write outside its folder or open a connection; this walks it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import twoviews

ROOT = Path(twoviews.__file__).parent
DOWNLOADS = "dataset/download.py"  # the one file that may open a connection

RUNS_CODE = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "subprocess", "pty"}
NETWORK = {
    *("socket", "ssl", "http", "urllib", "ftplib", "smtplib", "poplib", "imaplib", "telnetlib", "xmlrpc"),
    *("socketserver", "asyncio", "requests", "urllib3", "httpx", "aiohttp", "websockets", "huggingface_hub", "boto3"),
}
NEVER = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "tempfile.mktemp"),
    *("yaml.unsafe_load", "yaml.unsafe_load_all", "yaml.full_load", "yaml.full_load_all"),
    *("torch.jit.load", "torch.hub.load", "torch.hub.load_state_dict_from_url", "torch.package.PackageImporter"),
    "jinja2.Template",
}
# Safe with the right words only, so never handed on under another name either.
WATCHED = {
    "torch.load",
    "numpy.load",
    "numpy.save",
    "yaml.load",
    "yaml.load_all",
    "PIL.Image.open",
    "jinja2.Environment",
}
SAFE_LOADERS = {"yaml.SafeLoader", "yaml.CSafeLoader"}


class Walk:
    """The complaints about one module."""

    def __init__(self, source: str, *, network: bool = False) -> None:
        self.tree = ast.parse(source)
        self.network = network
        self.names: dict[str, str] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    self.names[alias.asname or alias.name.partition(".")[0]] = (
                        alias.name if alias.asname else alias.name.partition(".")[0]
                    )
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                self.names.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})
        self.loaders = SAFE_LOADERS | {
            node.name
            for node in ast.walk(self.tree)
            if isinstance(node, ast.ClassDef) and any(self.full(base) in SAFE_LOADERS for base in node.bases)
        }

    def full(self, node: ast.AST) -> str:
        """The name of a thing with its module, whatever it was imported as; "" where it is no name."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            before = self.full(node.value)
            return f"{before}.{node.attr}" if before else ""
        return ""

    def complaints(self) -> Iterator[str]:
        called = {id(node.func) for node in ast.walk(self.tree) if isinstance(node, ast.Call)}
        for node in ast.walk(self.tree):
            where = f"line {getattr(node, 'lineno', 0)}"
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                yield from (f"{where}: imports {name}" for name in self._imported(node) if self._forbidden(name))
            elif isinstance(node, (ast.Name, ast.Attribute)):
                name = self.full(node)
                if name in NEVER or name.startswith(("os.exec", "os.spawn")):
                    yield f"{where}: {name}"
                elif name in WATCHED and isinstance(node.ctx, ast.Load) and id(node) not in called:
                    yield f"{where}: {name} handed on"
            elif isinstance(node, ast.Call) and (complaint := self._call(node)):
                yield f"{where}: {complaint}"

    @staticmethod
    def _imported(node: ast.Import | ast.ImportFrom) -> list[str]:
        if isinstance(node, ast.Import):
            return [alias.name for alias in node.names]
        return [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]

    def _forbidden(self, name: str) -> bool:
        top = name.partition(".")[0]
        return name in NEVER or top in RUNS_CODE or (top in NETWORK and not self.network)

    def _call(self, call: ast.Call) -> str:
        name = self.full(call.func)
        words = {word.arg: word.value for word in call.keywords if word.arg}

        def is_set(word: str, value: object) -> bool:
            given = words.get(word)
            return isinstance(given, ast.Constant) and given.value is value

        if name == "torch.load" and not is_set("weights_only", True):
            return "torch.load without weights_only=True"
        if name in ("numpy.load", "numpy.save") and not is_set("allow_pickle", False):
            return f"{name} without allow_pickle=False"
        if name in ("yaml.load", "yaml.load_all"):
            given = words.get("Loader") or (call.args[1] if len(call.args) > 1 else None)
            if given is None or self.full(given) not in self.loaders:
                return f"{name} without a safe loader"
        if name == "markupsafe.Markup":
            return "text taken for HTML"
        if name == "PIL.Image.open" and "formats" not in words:
            return "Image.open without formats="
        if name == "jinja2.Environment" and not is_set("autoescape", True):
            return "jinja2.Environment without autoescape=True"
        if is_set("shell", True):
            return "shell=True"
        last = call.func.attr if isinstance(call.func, ast.Attribute) else name.rpartition(".")[2]
        if last in ("extractall", "unpack_archive") and not isinstance(words.get("filter"), ast.Constant):
            return f"{last} without a filter"
        return f"{last} unpickles" if last in ("read_pickle", "to_pickle") else ""


def complaints(source: str, *, network: bool = False) -> list[str]:
    return list(Walk(source, network=network).complaints())


FILES = {file.relative_to(ROOT).as_posix(): file for file in sorted(ROOT.rglob("*.py"))}


def test_our_source_is_safe() -> None:
    found = {
        name: said
        for name, file in FILES.items()
        if (said := complaints(file.read_text(encoding="utf-8"), network=name == DOWNLOADS))
    }
    assert found == {}


def test_the_walk_sees_the_package_and_the_one_file_that_downloads() -> None:
    assert len(FILES) > 70
    assert complaints(FILES[DOWNLOADS].read_text(encoding="utf-8"))


def test_templates_escape_everything() -> None:
    templates = sorted(ROOT.rglob("*.j2"))
    assert templates
    for template in templates:
        assert not re.search(r"\|\s*safe\b|autoescape\s+false", template.read_text(encoding="utf-8")), template


BAD = [
    "import pickle",
    "import pickle as p",
    "from pickle import loads",
    "import joblib.numpy_pickle",
    "def f():\n    import dill",
    "import shelve",
    "import marshal",
    "import subprocess",
    "import torch\ntorch.load('x')",
    "import torch\ntorch.load('x', weights_only=False)",
    "import torch\nsafe = True\ntorch.load('x', weights_only=safe)",
    "import torch as t\nt.load('x')",
    "from torch import load\nload('x')",
    "from torch import load as read\nread('x')",
    "import torch\nread = torch.load",
    "import functools, torch\nfunctools.partial(torch.load, weights_only=True)",
    "import torch\ntorch.hub.load('a', 'b')",
    "import torch\ntorch.jit.load('x')",
    "import numpy as np\nnp.load('x')",
    "import numpy as np\nnp.load('x', allow_pickle=True)",
    "import numpy\nnumpy.save('x', [])",
    "import yaml\nyaml.load('x')",
    "import yaml\nyaml.load('x', yaml.Loader)",
    "import yaml\nyaml.load('x', Loader=yaml.FullLoader)",
    "import yaml\nclass Mine(yaml.Loader): ...\nyaml.load('x', Mine)",
    "from yaml import unsafe_load",
    "import yaml\nyaml.full_load('x')",
    "import tarfile\ntarfile.open('x').extractall('y')",
    "import shutil\nshutil.unpack_archive('x')",
    "eval('1')",
    "exec('1')",
    "__import__('os')",
    "run = eval",
    "import os\nos.system('ls')",
    "from os import system\nsystem('ls')",
    "import os\nos.execv('a', [])",
    "f('ls', shell=True)",
    "import socket",
    "import urllib.request",
    "from http.client import HTTPConnection",
    "def f():\n    import requests",
    "from huggingface_hub import hf_hub_download",
    "from PIL import Image\nImage.open('x')",
    "import PIL.Image\nPIL.Image.open('x')",
    "import jinja2\njinja2.Environment()",
    "from markupsafe import Markup\nMarkup('<b>')",
    "import pandas as pd\npd.read_pickle('x')",
]
GOOD = [
    "import torch\ntorch.load('x', weights_only=True)",
    "import numpy as np\nnp.load('x', allow_pickle=False)",
    "import yaml\nyaml.safe_load('x')",
    "import yaml\nyaml.load('x', yaml.SafeLoader)",
    "import yaml\nclass Mine(yaml.SafeLoader): ...\nyaml.load('x', Mine)",
    "import tarfile\ntarfile.open('x').extractall('y', filter='data')",
    "import re\nre.compile('x')",
    "model.eval()",
    "from PIL import Image\nImage.open('x', formats=('PNG',))",
    "import jinja2\njinja2.Environment(autoescape=True)",
    "engine.load('x')",
    "from markupsafe import Markup\nisinstance(1, Markup)",
]


@pytest.mark.parametrize("source", BAD)
def test_the_walk_finds_what_is_unsafe(source: str) -> None:
    assert complaints(source)


@pytest.mark.parametrize("source", GOOD)
def test_the_walk_lets_safe_things_pass(source: str) -> None:
    assert complaints(source) == []
