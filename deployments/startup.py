"""The order in which the local stack starts: what can overlap does."""

import asyncio
import importlib
import json
import shlex
import sys
from collections.abc import Callable, Mapping
from time import monotonic

from infra.local.embedded_broker import TOPIC_LIMITS
from infra.local.folder import write_privately
from infra.local.ports import LOOPBACK
from infra.local.prefect_server import api_url, ui_url, wait_for_answer, wait_until_healthy
from infra.local.process import Child, wait_until
from infra.local.stack import DATABASE, Stack
from infra.postgres.apply import LOADER, MONITOR
from infra.postgres.rights import READER
from infra.settings import read_settings
from schemas.errors import TerminalError

BATCH = "batch"
STREAM = "stream"
OPS = "ops"
ANSWER_DEADLINE_SECONDS = 120.0

Say = Callable[[str], None]


async def start_dashboard(stack: Stack, environment: Mapping[str, str]) -> str:
    """Return the dashboard's address once it answers there; it is kept alive from now on."""
    url = f"http://{LOOPBACK}:{environment['SLUICEWAY_DASHBOARD_PORT']}"
    command = [sys.executable, "-m", "dash_app"]
    dashboard = stack.keep("dashboard", command, environment, is_apart=True)
    await wait_for_answer(f"{url}/healthz", dashboard.child, ANSWER_DEADLINE_SECONDS)
    return url


def start_watchers(stack: Stack, environment: Mapping[str, str]) -> str:
    """Start what watches the platform, each kept alive; returns the address of the metrics."""
    spoken = {**environment, "SLUICEWAY_LOG_STDOUT": "true"}
    for name, module, seconds in (
        ("health", "flows.check_health", 60),
        ("janitor", "flows.mark_dead_runs", 30),
        ("mail", "flows.send_mail", 10),
    ):
        command = [sys.executable, "-m", module, "--every", str(seconds)]
        stack.keep(name, command, spoken, is_apart=True)
    stack.keep("exporter", [sys.executable, "-m", "infra.exporter"], spoken, is_apart=True)
    keep_worker(stack, OPS, environment)
    return f"http://{LOOPBACK}:{environment['SLUICEWAY_EXPORTER_PORT']}/metrics"


def keep_worker(stack: Stack, pool: str, environment: Mapping[str, str]) -> None:
    """Start a worker of that pool; it is kept alive from now on."""
    command = [sys.executable, "-m", "deployments.worker", pool, "--name", "local"]
    stack.keep(f"worker-{pool}", command, environment, ends_children=True)


class Startup:
    """Brings up a stack, telling a person how far it is."""

    def __init__(self, stack: Stack, say: Say) -> None:
        """Start the clock."""
        self._stack = stack
        self._say = say
        self._start_time = monotonic()

    async def run(self) -> dict[str, str]:
        """Return the environment that reaches the stack, once deployments can be run on it."""
        stack = self._stack
        await stack.start_postgres()
        for note in stack.postgres.notes:
            self._say(note)
        self._report(f"PostgreSQL {stack.postgres.binaries.major_version} takes connections")
        server = stack.keep_prefect_server().child
        publication = stack.start(
            "publication", [sys.executable, "-m", "deployments.publication"], self._prefect
        )
        environment = self._prefect | self._start_sample_api()
        await stack.start_broker()
        environment["SLUICEWAY_KAFKA_BOOTSTRAP_SERVERS"] = stack.broker.bootstrap_servers
        environment["SLUICEWAY_KAFKA_IDLE_PAUSE_SECONDS"] = "0.1"
        async with asyncio.TaskGroup() as group:
            group.create_task(self._bootstrap())
            group.create_task(self._ensure_topics())
            group.create_task(self._watch_server(server))
            group.create_task(self._deploy(publication, environment))
        stack.is_complete = True
        write_privately(stack.folder.environment_file, render_environment(environment))
        return environment

    @property
    def _prefect(self) -> dict[str, str]:
        return self._stack.client_environment

    def _start_sample_api(self) -> dict[str, str]:
        stack = self._stack
        port = stack.folder.port("sample-api")
        stack.start(
            "sample-api", [sys.executable, "-m", "infra.sample.api", "--port", str(port)], {}
        )
        dashboard = stack.folder.port("dashboard")
        return {
            "SLUICEWAY_DATABASE_URL": self._database_url(LOADER),
            "SLUICEWAY_READER_DATABASE_URL": self._database_url(READER),
            "SLUICEWAY_MONITOR_DATABASE_URL": self._database_url(MONITOR),
            "SLUICEWAY_OWNER_DATABASE_URL": stack.owner_url,
            "SLUICEWAY_API_ENDPOINTS": json.dumps([f"http://{LOOPBACK}:{port}/users"]),
            "SLUICEWAY_PREFECT_UI_URL": ui_url(stack.prefect_port),
            "SLUICEWAY_DASHBOARD_PORT": str(dashboard),
            "SLUICEWAY_DASHBOARD_URL": f"http://{LOOPBACK}:{dashboard}",
            "SLUICEWAY_EXPORTER_PORT": str(stack.folder.port("exporter")),
        }

    def _database_url(self, role: str) -> str:
        stack = self._stack
        return stack.postgres.url(DATABASE, user=role, password=stack.folder.secret(role))

    async def _bootstrap(self) -> None:
        # Its imports take seconds: Prefect's server starts meanwhile, and Ctrl-C is heard.
        module = await asyncio.to_thread(importlib.import_module, "deployments.bootstrap")
        folder = self._stack.folder
        await module.bootstrap(
            self._stack.owner_url,
            loader_password=folder.secret(LOADER),
            reader_password=folder.secret(READER),
            monitor_password=folder.secret(MONITOR),
        )
        self._report("roles and tables are as the contracts want them")

    async def _ensure_topics(self) -> None:
        module = await asyncio.to_thread(importlib.import_module, "infra.kafka.topics")
        settings = read_settings().model_copy(
            update={"kafka_bootstrap_servers": self._stack.broker.bootstrap_servers}
        )
        await module.ensure_topics(settings, configs=TOPIC_LIMITS)
        self._report("the broker has the stream's topics")

    async def _watch_server(self, server: Child) -> None:
        await wait_until_healthy(self._stack.prefect_port, server)
        self._report("the Prefect server answers")

    async def _deploy(self, publication: Child, environment: Mapping[str, str]) -> None:
        stack = self._stack
        pool = f"{api_url(stack.prefect_port)}/work_pools/{BATCH}"
        await wait_for_answer(pool, publication, ANSWER_DEADLINE_SECONDS)
        keep_worker(stack, BATCH, environment)
        if not await asyncio.to_thread(
            wait_until, lambda: not publication.is_running, ANSWER_DEADLINE_SECONDS
        ):
            raise TerminalError(
                f"The deployments were not made within {ANSWER_DEADLINE_SECONDS:.0f} s; see "
                f"{publication.launch.log}."
            )
        if publication.exit_code:
            raise publication.explain_end()
        stack.dismiss(publication)
        self._report("the flows are deployed")
        keep_worker(stack, STREAM, environment)
        stack.keep("keeper", [sys.executable, "-m", "deployments.keeper"], environment)

    def _report(self, what: str) -> None:
        self._say(f"{monotonic() - self._start_time:5.1f} s  {what}")


def render_environment(environment: Mapping[str, str]) -> str:
    """Return the lines that give a shell this environment."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
