"""Archives: fetched whole or not at all, and unpacked without trust."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from twoviews.dataset import download
from twoviews.dataset.download import Archive, ensure_archive, unpack
from twoviews.errors import DataError, ResourceError

ARCHIVE = Archive(
    title="Toys",
    url="http://127.0.0.1:9/toys.tar.gz",
    md5="",
    folder="toys",
    files=("a.bin", "b.bin", "names.txt"),
    required=("a.bin", "b.bin"),
    download_size="1 MB",
    disk_size="2 MB",
    unpacked_bytes=2_000_000,
)
GOOD = {"toys/a.bin": b"A" * 1000, "toys/b.bin": bytes(range(256)) * 4, "toys/names.txt": b"x\n"}


def packed(members: dict[str, bytes | tarfile.TarInfo]) -> bytes:
    """A .tar.gz of files, or of prepared members."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                content.name = name
                tar.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def member(kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, target
    return info


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


class Server:
    """A web server on this machine that can cut answers short and knows ranges."""

    def __init__(self) -> None:
        self.content = b""
        self.cut_after: int | None = None
        self.ranges: list[str | None] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = self.headers.get("Range")
                outer.ranges.append(asked)
                start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
                self.send_response(206 if asked else 200)
                self.send_header("Content-Length", str(len(outer.content) - start))
                self.end_headers()
                self.wfile.write(outer.content[start : outer.cut_after])

            def log_message(self, *args: object) -> None:
                pass

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def archive(self, md5: str | None = None) -> Archive:
        url = f"http://127.0.0.1:{self.http.server_port}/toys.tar.gz"
        return replace(ARCHIVE, url=url, md5=md5 or hashlib.md5(self.content).hexdigest())


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    running = Server()
    yield running
    running.http.shutdown()
    running.http.server_close()


def test_downloads_once_and_leaves_only_the_files(tmp_path: Path, server: Server) -> None:
    server.content = packed({"toys": member(tarfile.DIRTYPE), **GOOD})
    said: list[tuple[int, int, str]] = []
    folder = ensure_archive(server.archive(), tmp_path, True, lambda *step: said.append(step))
    assert folder == tmp_path / "toys"
    assert {name: (tmp_path / name).read_bytes() for name in GOOD} == GOOD
    assert {name for name in tree(tmp_path) if not name.endswith(".lock")} == set(GOOD)
    assert (len(server.content), len(server.content), "Downloading Toys") in said
    ensure_archive(server.archive(), tmp_path, True)
    assert len(server.ranges) == 1


def test_a_download_cut_short_goes_on_where_it_stopped(tmp_path: Path, server: Server) -> None:
    server.content = packed(GOOD)
    server.cut_after = 100
    with pytest.raises(DataError, match=r"100 of [\d,]+ bytes"):
        ensure_archive(server.archive(), tmp_path, True)
    assert (tmp_path / "toys.tar.gz.part").stat().st_size == 100
    assert not (tmp_path / "toys").exists()
    server.cut_after = None
    ensure_archive(server.archive(), tmp_path, True)
    assert server.ranges == [None, "bytes=100-"]
    assert (tmp_path / "toys" / "a.bin").read_bytes() == GOOD["toys/a.bin"]


def test_a_wrong_checksum_is_refused_and_the_file_kept_as_bad(tmp_path: Path, server: Server) -> None:
    server.content = packed(GOOD)
    right = hashlib.md5(server.content).hexdigest()
    wrong = "0" * 32
    with pytest.raises(DataError, match=f"{right}.*{wrong}"):
        ensure_archive(server.archive(wrong), tmp_path, True)
    assert (tmp_path / "toys.tar.gz.bad").read_bytes() == server.content
    assert not (tmp_path / "toys.tar.gz").exists()
    assert not (tmp_path / "toys.tar.gz.part").exists()
    assert not (tmp_path / "toys").exists()


def test_an_archive_put_there_by_hand_is_used_and_kept(tmp_path: Path) -> None:
    content = packed(GOOD)
    (tmp_path / "toys.tar.gz").write_bytes(content)
    ensure_archive(replace(ARCHIVE, md5=hashlib.md5(content).hexdigest()), tmp_path, True)
    assert (tmp_path / "toys" / "b.bin").read_bytes() == GOOD["toys/b.bin"]
    assert (tmp_path / "toys.tar.gz").exists()


def test_files_that_are_there_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "toys").mkdir()
    (tmp_path / "toys" / "a.bin").write_bytes(b"mine")
    content = packed(GOOD)
    (tmp_path / "toys.tar.gz").write_bytes(content)
    ensure_archive(replace(ARCHIVE, md5=hashlib.md5(content).hexdigest()), tmp_path, True)
    assert (tmp_path / "toys" / "a.bin").read_bytes() == b"mine"
    assert (tmp_path / "toys" / "b.bin").read_bytes() == GOOD["toys/b.bin"]


def test_without_network_one_line_says_what_where_and_how_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(DataError) as caught:
        ensure_archive(ARCHIVE, tmp_path, True)
    message = str(caught.value)
    for part in (ARCHIVE.url, "1 MB", "2 MB", str(tmp_path / "toys"), "a.bin, b.bin", "refused"):
        assert part in message
    assert "\n" not in message


def test_too_little_space_is_said_before_the_download(tmp_path: Path, server: Server) -> None:
    server.content = packed(GOOD)
    with pytest.raises(ResourceError, match="GB free"):
        ensure_archive(replace(server.archive(), unpacked_bytes=10**18), tmp_path, True)
    assert server.ranges == []


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({"../evil": b"x"}, "leads outside"),
        ({"toys/../../evil": b"x"}, "leads outside"),
        ({"toys/../evil": b"x"}, "leads outside"),
        ({"/tmp/evil": b"x"}, "leads outside"),
        ({"toys\\..\\evil": b"x"}, "leads outside"),
        ({"toys/..\\..\\evil": b"x"}, "leads outside"),
        ({"other/evil": b"x"}, "leads outside"),
        ({"toys/names.txt": member(tarfile.SYMTYPE, "/etc/passwd")}, "neither a file nor a folder"),
        ({"toys/names.txt": member(tarfile.LNKTYPE, "toys/a.bin")}, "neither a file nor a folder"),
        ({"toys/names.txt": member(tarfile.FIFOTYPE)}, "neither a file nor a folder"),
        ({"toys/names.txt": member(tarfile.CHRTYPE)}, "neither a file nor a folder"),
        ({"toys/names.txt": member(tarfile.BLKTYPE)}, "neither a file nor a folder"),
        ({"toys": member(tarfile.SYMTYPE, "/tmp")}, "neither a file nor a folder"),
        ({"toys/A.bin": b"x"}, "comes twice"),
        ({"toys/zeros": b"\0" * 30_000_000}, "200 times"),
    ],
)
def test_unsafe_archives_are_refused_whole(
    tmp_path: Path, extra: dict[str, bytes | tarfile.TarInfo], expected: str
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    file = tmp_path / "toys.tar.gz"
    file.write_bytes(packed({"toys/a.bin": b"A", "toys/b.bin": b"B", **extra}))
    with pytest.raises(DataError, match=expected):
        unpack(ARCHIVE, file, root)
    assert tree(tmp_path) == {"toys.tar.gz"}
    assert list(root.iterdir()) == []


def test_a_member_named_twice_is_refused(tmp_path: Path) -> None:
    """The second would take the place of the first, which was looked at."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for content in (b"A", b"B", b"evil"):
            info = tarfile.TarInfo("toys/b.bin" if content != b"A" else "toys/a.bin")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    (tmp_path / "toys.tar.gz").write_bytes(stream.getvalue())
    with pytest.raises(DataError, match=r"toys/b\.bin.*comes twice"):
        unpack(ARCHIVE, tmp_path / "toys.tar.gz", tmp_path)
    assert tree(tmp_path) == {"toys.tar.gz"}


def test_more_than_20_gb_is_refused_by_its_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_MAX_RATIO", 10**12)
    huge = tarfile.TarInfo("toys/b.bin")
    huge.size = 20_000_000_001
    content = gzip.compress(huge.tobuf())
    (tmp_path / "toys.tar.gz").write_bytes(content)
    with pytest.raises(DataError, match="20 GB"):
        unpack(ARCHIVE, tmp_path / "toys.tar.gz", tmp_path)
    assert tree(tmp_path) == {"toys.tar.gz"}


def test_the_checksum_comes_before_the_first_member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toys.tar.gz").write_bytes(packed({"../evil": b"x", **GOOD}))
    monkeypatch.setattr(download.tarfile, "open", lambda *words: pytest.fail("opened before it was checked"))
    with pytest.raises(DataError, match="MD5"):
        ensure_archive(replace(ARCHIVE, md5="0" * 32), tmp_path, True)
    assert (tmp_path / "toys.tar.gz.bad").exists()


def test_other_harmless_files_stay_packed(tmp_path: Path) -> None:
    file = tmp_path / "toys.tar.gz"
    file.write_bytes(packed({**GOOD, "toys/readme": b"hello", "toys/deep/a.bin": b"other"}))
    unpack(ARCHIVE, file, tmp_path)
    assert tree(tmp_path) == {"toys.tar.gz", *GOOD}


@pytest.mark.parametrize(
    "content",
    [packed(GOOD)[:-200], b"not an archive", packed({"toys/a.bin": b"A"})],
    ids=["cut", "text", "incomplete"],
)
def test_damaged_archives_leave_nothing(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "toys.tar.gz"
    file.write_bytes(content)
    with pytest.raises(DataError):
        unpack(ARCHIVE, file, tmp_path)
    assert tree(tmp_path) == {"toys.tar.gz"}


def test_an_interrupted_unpacking_is_never_taken_for_the_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = packed(GOOD)
    (tmp_path / "toys.tar.gz").write_bytes(content)
    archive = replace(ARCHIVE, md5=hashlib.md5(content).hexdigest())
    real = download._copy

    def interrupted(source: object, file: Path) -> None:
        if file.name == "b.bin":
            raise KeyboardInterrupt
        real(source, file)  # type: ignore[arg-type]

    monkeypatch.setattr(download, "_copy", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ensure_archive(archive, tmp_path, True)
    assert not (tmp_path / "toys").exists()
    monkeypatch.setattr(download, "_copy", real)
    ensure_archive(archive, tmp_path, True)
    assert (tmp_path / "toys" / "b.bin").exists()
