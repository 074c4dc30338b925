"""Paths that lead out of the folders of static files, however they are written."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

from tests.security.claim import Claim, FoiledError
from tests.security.dashboard_stage import Site, Stage

PLANTED = "planted-5c1d7e90a2"
BASES = (
    "/assets",
    "/_dash-component-suites",
    "/_dash-component-suites/dash",
    "/_dash-component-suites/dash/dcc",
    "/_dash-component-suites/dash_ag_grid",
    "/_dash-component-suites/dash_mantine_components",
    "/_favicon.ico",
    "/_reload-hash",
    "/export",
    "/export/quarantine.csv",
    "",
)
"""Where static files, exports and whatever else has a path are served from."""
UP = 14
"""Folders to go up: more than there are above any of them."""
WRITTEN: Mapping[str, Callable[[str], str]] = {
    "plain": lambda path: "/.." * UP + path,
    "encoded-dots": lambda path: "/%2e%2e" * UP + path,
    "encoded-slashes": lambda path: "/" + "..%2f" * UP + path[1:].replace("/", "%2f"),
    "encoded-wholly": lambda path: "/" + "%2e%2e%2f" * UP + path[1:].replace("/", "%2F"),
    "encoded-twice": lambda path: "/" + "%252e%252e%252f" * UP + path[1:],
    "backslashes": lambda path: "/" + "..\\" * UP + path[1:],
    "encoded-backslashes": lambda path: "/" + "..%5c" * UP + path[1:],
    "stripped-once": lambda path: "/" + "....//" * UP + path[1:],
    "overlong-utf8": lambda path: "/" + "%c0%ae%c0%ae/" * UP + path[1:],
    "with-parameters": lambda path: "/" + "..;/" * UP + path[1:],
    "absolute": lambda path: "/" + path,
    "absolute-encoded": lambda path: "/" + path.replace("/", "%2f"),
}
"""How the way to a file is written."""


@dataclass(frozen=True, slots=True)
class Walk:
    """A way out of the folders, on a server."""

    site: Site | None
    """None: the careless one."""
    tail: str
    planted: Path


def _decode_overlong(path: str) -> str:
    return unquote(path.replace("%c0%ae", "."))


_CARELESS: tuple[Callable[[str], str], ...] = (
    str,
    unquote,
    lambda path: unquote(unquote(path)),
    lambda path: unquote(path).replace("\\", "/"),
    lambda path: path.replace("../", ""),
    _decode_overlong,
    lambda path: path.replace(";", ""),
)
"""What servers do to a path before they open what it names."""


class _CarelessHandler(BaseHTTPRequestHandler):
    """Serves files below a folder, and whatever else a path leads to."""

    folder = Path("/")

    def do_GET(self) -> None:
        for base in sorted(BASES, key=len, reverse=True):
            if self.path.startswith(base):
                rest = self.path.removeprefix(base).removeprefix("/")
                break
        for decode in _CARELESS:
            # An absolute path replaces the folder, as it does in pathlib.
            found = self.folder / decode(rest)
            if found.is_file():
                self._answer(200, found.read_bytes())
                return
        self._answer(404, b"")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@asynccontextmanager
async def _careless(folder: Path) -> AsyncIterator[Site]:
    handler = type("Handler", (_CarelessHandler,), {"folder": folder})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Site(f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


async def walk_out(walk: Walk) -> str:
    """Return that a file outside was read."""
    if walk.site is None:
        async with _careless(walk.planted.parent) as site:
            return await asyncio.to_thread(_walk, site, walk.tail)
    return await asyncio.to_thread(_walk, walk.site, walk.tail)


def _walk(site: Site, tail: str) -> str:
    answers = {base + tail: site.ask("GET", base + tail) for base in BASES}
    for path, answer in answers.items():
        if PLANTED in answer.text:
            return f"GET {path[:60]}… has the planted file"
    statuses = sorted({each.status for each in answers.values()})
    raise FoiledError(f"{len(answers)} paths were answered {statuses}, none with the file")


def _choose(written: Callable[[str], str], *, is_guarded: bool) -> Callable[[Stage], Walk]:
    def choose(stage: Stage) -> Walk:
        planted = stage.session.folder / "planted.txt"
        planted.write_text(PLANTED)
        site = stage.site(stage.guarded, "otto") if is_guarded else None
        return Walk(site, written(str(planted)), planted)

    return choose


CLAIMS = tuple(
    Claim(
        f"path-{name}",
        f"leave the folders of static files by a path that is written {name.replace('-', ' ')}",
        walk_out,
        _choose(written, is_guarded=True),
        _choose(written, is_guarded=False),
        saying="none with the file",
    )
    for name, written in WRITTEN.items()
)
