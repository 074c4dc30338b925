"""An installation in which each secret is a marker, and all that it says while things go wrong."""

import asyncio
import contextlib
import importlib
import io
import json
import logging
import os
import pkgutil
import subprocess
import sys
import threading
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import httpx
import uvicorn
from aiohttp import web
from prefect.client.orchestration import get_client
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_API_URL

import flows
from dash_app.__main__ import configure_server, listen
from dash_app.access.accounts import read_accounts
from dash_app.access.passwords import LOG_N, PARALLEL, PasswordHash
from dash_app.access.sessions import COOKIE, Sessions
from dash_app.application import build
from infra.local.postgres import Postgres
from infra.logs import detach_log_table
from infra.postgres.identifiers import qualify
from infra.postgres.identifiers import quote as quote_name
from infra.settings import read_settings
from tests.conftest import FAST
from tests.secret_markers import Marker

ROOT = Path(__file__).parents[2]
ROLES = ("owner", "loader", "reader", "monitor", "eraser")
OTHERS = (
    "kafka_password",
    "smtp_password",
    "dashboard_secret",
    "password_hash",
    "notify_urls",
    "endpoint_query",
    "endpoint_token",
    "endpoint_header",
    "backup_key",
    "cell_keys",
    "index_keys",
    "wrong_password",
)
PAGES = ("/", "/runs", "/quarantine", "/logs", "/system", "/nowhere", "/_dash-layout", "/login")
KINDS = {
    "flow_runs": {"limit": 200, "sort": "START_TIME_DESC"},
    "task_runs": {"limit": 200, "sort": "EXPECTED_START_TIME_DESC"},
    "logs": {"limit": 200, "sort": "TIMESTAMP_DESC"},
    "artifacts": {"limit": 200},
    "variables": {"limit": 200},
    "block_documents": {"limit": 200},
    # Newest first; the server gives no more at a time.
    "events": {"limit": 50},
}
"""What there is to ask Prefect for, and how: other tests have left things there too."""


@dataclass
class Stage:
    """Where it happens, what is secret, and what was said."""

    folder: Path
    postgres: Postgres
    markers: dict[str, Marker] = field(
        default_factory=lambda: {name: Marker(name) for name in (*ROLES, *OTHERS)}
    )
    outputs: dict[str, str | bytes] = field(default_factory=dict)

    def url(self, role: str, *, password: str = "", port: int = 0) -> str:
        """Return the platform's database as that role, by default with its marker."""
        given = quote(password or self.markers[role].password, safe="")
        return (
            f"postgresql://sluiceway_{role}:{given}@127.0.0.1:{port or self.postgres.port}/platform"
        )

    def environment(self, **more: str) -> dict[str, str]:
        """Return every setting that holds a secret, and where to write; `more` goes before."""
        by_name = self.markers
        hashed = PasswordHash(LOG_N, PARALLEL, b"only for tests !", b"").text.rsplit(":", 1)[0]
        written = by_name["password_hash"].key.rstrip("=").replace("+", "-").replace("/", "_")
        given = {
            **{f"{role}_database_url": self.url(role) for role in ROLES if role != "loader"},
            "database_url": self.url("loader"),
            "kafka_bootstrap_servers": "127.0.0.1:9",
            "kafka_security": "sasl_ssl",
            "kafka_user": "sluiceway",
            "kafka_password": by_name["kafka_password"].password,
            "smtp_user": "sluiceway",
            "smtp_password": by_name["smtp_password"].password,
            "mail_to": '["ops@example.com"]',
            "dashboard_port": "0",
            "dashboard_secret": by_name["dashboard_secret"].password * 2,
            "dashboard_users": json.dumps({"eve": {"password_hash": f"{hashed}:{written}"}}),
            "notify_urls": json.dumps([f"ntfy://{by_name['notify_urls'].word}@127.0.0.1:9/alerts"]),
            "backup_key": by_name["backup_key"].key,
            "cell_keys": f"now={by_name['cell_keys'].key}",
            "index_keys": f"now={by_name['index_keys'].key}",
            "raw_folder": str(self.folder / "raw"),
            "log_folder": str(self.folder / "logs"),
            "connect_timeout_seconds": "2",
            "health_timeout_seconds": "2",
            **more,
        }
        return {f"SLUICEWAY_{name.upper()}": value for name, value in given.items()}

    @contextlib.contextmanager
    def settings(self, **more: str) -> Iterator[None]:
        """Let the process have these settings, and no others, while the block is under way."""
        before = dict(os.environ)
        for name in [each for each in os.environ if each.startswith("SLUICEWAY_")]:
            del os.environ[name]
        os.environ.update(self.environment(**more))
        read_settings.cache_clear()
        try:
            yield
        finally:
            detach_log_table()
            os.environ.clear()
            os.environ.update(before)
            read_settings.cache_clear()

    @contextlib.contextmanager
    def listening(self, name: str) -> Iterator[None]:
        """Keep what is written and logged meanwhile, tracebacks and all, as that output."""
        written = io.StringIO()
        handler = logging.StreamHandler(written)
        handler.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))
        loggers = [logging.getLogger(each) for each in LOGGERS]
        for each in loggers:
            each.addHandler(handler)
        try:
            with contextlib.redirect_stdout(written), contextlib.redirect_stderr(written):
                yield
        finally:
            for each in loggers:
                each.removeHandler(handler)
            self.outputs[name] = str(self.outputs.get(name, "")) + written.getvalue()

    async def command(self, module: str, *arguments: str) -> int:
        """Run a module's main as a shell would, and keep what it says; returns its exit code."""
        name = " ".join([module, *arguments])
        with self.listening(name):
            return await asyncio.to_thread(_call, importlib.import_module(module), arguments)

    async def attempt(self, name: str, act: Callable[[], Awaitable[Any]]) -> BaseException | None:
        """Do it and keep what is said; returns the error, of which all is kept that it says."""
        with self.listening(name):
            try:
                await act()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is looked into
                self.outputs[f"{name}, its error"] = f"{error} {error!r}"
                return error
        return None

    async def database(self) -> None:
        """Keep every row of every table, as text."""
        connection = await asyncpg.connect(self.postgres.url("platform"))
        try:
            for schema, table in await connection.fetch(
                "SELECT schemaname, tablename FROM pg_tables"
                " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
            ):
                rows = await connection.fetch(f"SELECT t::text FROM {qualify(schema, table)} AS t")  # noqa: S608 - of the catalogue
                self.outputs[f"{schema}.{table}"] = "\n".join(row[0] for row in rows)
        finally:
            await connection.close()

    async def prefect(self) -> None:
        """Keep what Prefect's API tells whoever asks."""
        await APILogHandler.aflush()
        async with get_client() as client:
            for kind, question in KINDS.items():
                answer = await client._client.post(f"/{kind}/filter", json=question)  # noqa: SLF001 - as a stranger would ask
                self.outputs[f"Prefect's {kind}"] = answer.raise_for_status().text

    def files(self) -> None:
        """Keep every log file, and PostgreSQL's own."""
        for path in (self.folder / "logs").iterdir():
            self.outputs[path.name] = path.read_text(encoding="utf-8")
        self.outputs["PostgreSQL's log"] = self.postgres.log.read_text(errors="replace")


LOGGERS = ("", "prefect", "prefect.flow_runs", "prefect.task_runs", "aiokafka", "sluiceway")


def _call(module: Any, arguments: tuple[str, ...]) -> int:
    before, sys.argv = sys.argv, [module.__name__, *arguments]
    try:
        module.main()
    except SystemExit as ended:
        if isinstance(ended.code, str):
            sys.stderr.write(f"{ended.code}\n")
            return 1
        return ended.code or 0
    finally:
        sys.argv = before
    return 0


def flow_modules() -> list[str]:
    """Return the names of the modules of all flows."""
    return [f"flows.{each.name}" for each in pkgutil.iter_modules(flows.__path__)]


@contextlib.contextmanager
def started(folder: Path) -> Iterator[Stage]:
    """A PostgreSQL that logs every statement, with an owner of the platform's own."""
    settings = {**FAST, "log_statement": "all", "log_parameter_max_length_on_error": "-1"}
    (folder / "raw").mkdir()
    lines = "customer_id,name,signup_date\n1,Ann,2024-01-01\nx,Bo,2024-01-01\n"
    (folder / "raw" / "customers.csv").write_text(lines)
    (folder / "raw" / "products.csv").write_text("product_id,nom\n1,Spade\n")
    with warnings.catch_warnings():
        # Apprise's own, of a module that Python 3.13 has no more.
        warnings.simplefilter("ignore", DeprecationWarning)
        importlib.import_module("apprise.utils.pgp")
    with Postgres(folder / "data", settings=settings) as postgres:
        stage = Stage(folder, postgres)
        asyncio.run(_make_owner(stage))
        yield stage


async def _make_owner(stage: Stage) -> None:
    connection = await asyncpg.connect(stage.postgres.url("postgres"))
    try:
        # What a person types here is that person's.
        await connection.execute("SET log_statement = 'none'")
        password = stage.markers["owner"].password.replace("'", "''")
        await connection.execute(
            f"CREATE ROLE sluiceway_owner LOGIN CREATEROLE PASSWORD '{password}'"
        )
        await connection.execute(f"CREATE DATABASE {quote_name('platform')} OWNER sluiceway_owner")
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def served_api(stage: Stage) -> AsyncIterator[str]:
    """An API that wants each secret, and one that fails and shows it to everybody in its answer."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        said = f"{request.rel_url} {dict(request.headers)}"
        asked.append(said)
        if request.path.startswith("/broken"):
            return web.Response(status=400, text=said, reason=f"no {request.query['key']}")
        return web.json_response([{"id": 1, "name": "Ann", "username": "ann"}])

    app = web.Application()
    app.router.add_get("/{name}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    by_name = stage.markers
    endpoints = [
        {
            "url": f"http://127.0.0.1:{port}/{name}?key={by_name['endpoint_query'].word}",
            "dataset": "api_users",
            **({"token": by_name["endpoint_token"].word} if name == "users" else {}),
            "headers": {"X-Key": by_name["endpoint_header"].word},
            "attempts": 1,
        }
        for name in ("users", "broken")
    ]
    try:
        yield json.dumps(endpoints)
    finally:
        await runner.cleanup()
    # The secrets were really used.
    for each in ("endpoint_query", "endpoint_token", "endpoint_header"):
        assert any(by_name[each].core in one for one in asked), each


def run_process(stage: Stage, module: str, *arguments: str, **more: str) -> None:
    """Run a module in a process of its own, and keep all that it writes."""
    inherited = {name: each for name, each in os.environ.items() if "SLUICEWAY" not in name}
    ended = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=stage.folder,
        env=inherited
        | stage.environment(**more)
        | {"PYTHONPATH": str(ROOT), "PREFECT_API_URL": str(PREFECT_API_URL.value())},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    stage.outputs[f"the process {module}"] = f"{ended.returncode} {ended.stdout} {ended.stderr}"


@contextlib.contextmanager
def served_dashboard() -> Iterator[str]:
    """The dashboard by the process's settings; yields its address."""
    settings = read_settings()
    listening = listen(settings)
    server = uvicorn.Server(configure_server(build(settings)))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=60)


def visit_dashboard(stage: Stage, name: str) -> None:
    """Keep every answer to somebody who is logged in, and to a callback with nonsense in it."""
    settings = read_settings()
    accounts = read_accounts(settings)
    cookie = Sessions(accounts, settings.dashboard_secret.get_secret_value()).begin(accounts["eve"])
    stage.outputs[f"{name}: the cookie"] = cookie
    with (
        stage.listening(f"{name}: its log"),
        served_dashboard() as url,
        httpx.Client(base_url=url, trust_env=False, cookies={COOKIE: cookie}) as client,
    ):
        said = [client.get(page, headers={"Accept": "text/html"}) for page in PAGES]
        said.append(
            client.post("/_dash-update-component", json={"output": "x"}, headers={"Origin": url})
        )
    stage.outputs[f"{name}: the pages"] = "\n".join(
        f"{each.status_code} {each.headers} {each.text}" for each in said
    )
