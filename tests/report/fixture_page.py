"""A page as a test reads it."""

from __future__ import annotations

from html.parser import HTMLParser


class Page(HTMLParser):
    """Tags, addresses that are loaded, policy, scripts and text of a page; nothing on it has a handler of its own."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.policy = ""
        self.script = ""
        self._said: list[str] = []
        self.feed(html)
        self.text = " ".join("".join(self._said).split())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.tags.append(tag)
        self.loads += [given[name] or "" for name in ("src", "href", "srcset", "data", "action") if name in given]
        assert not any(name.startswith("on") for name in given)
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"] or ""

    def handle_endtag(self, tag: str) -> None:
        self._said.append(" ")

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.script += data
        elif self.cdata_elem is None:
            self._said.append(data)
