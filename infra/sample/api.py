"""A small HTTP service on loopback that plays the partner's API with the sample users.

python -m infra.sample.api --port 0 --port-file F
"""

import argparse
import asyncio
import re
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from infra.sample.users import make_users

HOST = "127.0.0.1"
DEFAULT_LIMIT = 4
MAX_LIMIT = 100
PAGE_NUMBER = re.compile(r"[1-9][0-9]{0,8}")


async def _list_users(_request: web.Request) -> web.Response:
    return web.json_response(make_users())


async def _list_page(request: web.Request) -> web.Response:
    numbers: dict[str, int] = {}
    for name, default in (("page", 1), ("limit", DEFAULT_LIMIT)):
        text = request.query.get(name, str(default))
        if not PAGE_NUMBER.fullmatch(text):
            message = f"{name} must be a whole number from 1 to 999999999, not '{text[:40]}'"
            return web.json_response({"error": message}, status=400)
        numbers[name] = int(text)
    limit = min(numbers["limit"], MAX_LIMIT)
    first = (numbers["page"] - 1) * limit
    return web.json_response(make_users()[first : first + limit])


async def _report_health(_request: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


def make_app() -> web.Application:
    """Return the application with its routes; it listens nowhere yet.

    GET /users is the whole list, GET /paged/users?page=1&limit=4 a part of it (an empty list past
    the end), GET /healthz answers while the service runs.
    """
    app = web.Application()
    app.router.add_get("/users", _list_users)
    app.router.add_get("/paged/users", _list_page)
    app.router.add_get("/healthz", _report_health)
    return app


@asynccontextmanager
async def serve_users(port: int = 0) -> AsyncIterator[str]:
    """Serve the users on loopback while the block runs, and yield the service's address.

    Port 0 takes a free one. Raises OSError if the port is taken.
    """
    runner = web.AppRunner(make_app(), access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, port).start()
        yield f"http://{HOST}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def _serve_until_told(port: int, port_file: Path | None) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    async with serve_users(port) as address:
        if port_file is not None:
            _write_whole(port_file, address.rsplit(":", 1)[1] + "\n")
        sys.stdout.write(f"{address}\n")
        sys.stdout.flush()
        await told.wait()


def _write_whole(path: Path, text: str) -> None:
    """Write the file so that nobody who waits for it reads a part."""
    draft = path.with_name(path.name + ".part")
    draft.write_text(text)
    draft.replace(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; the exit code is 1 if the service cannot start."""
    parser = argparse.ArgumentParser(description="Serve the sample users on loopback.")
    parser.add_argument("--port", type=int, default=0, help="0 (the default) takes a free port")
    parser.add_argument("--port-file", type=Path, help="where to write the port, once it listens")
    given = parser.parse_args(arguments)
    try:
        asyncio.run(_serve_until_told(given.port, given.port_file))
    except (OSError, OverflowError) as error:
        sys.stderr.write(
            f"The sample API cannot start on {HOST}:{given.port}: {error}; "
            "choose another --port or --port-file.\n"
        )
        return 1
    if given.port_file is not None:
        given.port_file.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
