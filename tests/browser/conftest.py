"""A headless Chromium with the network off, and the page it opens."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# Fixture studies are those of the report's own tests.
sys.path.insert(0, str(Path(__file__).parents[1] / "report"))

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The browser that is installed; none is ever downloaded."""
    api = pytest.importorskip("playwright.sync_api", reason="needs the package playwright: pip install -e '.[dev]'")
    if CHROMIUM is None:
        pytest.skip("needs a Chromium: apt-get install chromium")
    with api.sync_playwright() as playwright:
        # Without the sandbox, which containers often lack: the pages are our own, from disk, and offline.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Any]:
    """Opens a file, waits for its explorer or for ``ready``; afterwards the page had no error and broke no policy."""
    contexts, noise = [], []

    def open_it(path: Path, before: Any = None, ready: str = "#explore[data-ready]", **options: Any) -> Any:
        context = chromium.new_context(
            offline=True, viewport=options.pop("viewport", {"width": 1280, "height": 900}), **options
        )
        contexts.append(context)
        context.set_default_timeout(120_000)
        page = context.new_page()
        page.on("console", lambda message: noise.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: noise.append(f"error: {error}"))
        page.on("request", lambda request: request.url.startswith(("file:", "data:")) or noise.append(request.url))
        page.add_init_script(
            "window.broken = []; document.addEventListener('securitypolicyviolation',"
            " (event) => window.broken.push(event.violatedDirective));"
        )
        if before is not None:
            before(page)
        page.goto(path.as_uri())
        page.wait_for_selector(ready)
        page.evaluate("document.querySelector('.ex-tools')?.scrollIntoView()")
        return page

    yield open_it
    for context in contexts:
        for page in context.pages:
            assert page.evaluate("window.broken") == []
        context.close()
    assert noise == []


@pytest.fixture
def serious() -> Callable[[Any], list[tuple[str, Any]]]:
    """What axe finds on a page and calls serious or critical: its rule, and where."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")

    def found_on(page: Any) -> list[tuple[str, Any]]:
        found = axe.Axe().run(page).response["violations"]
        return [(one["id"], one["nodes"][0]["target"]) for one in found if one["impact"] in ("serious", "critical")]

    return found_on
