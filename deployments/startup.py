"""The order in which the local stack starts: what can overlap does."""

import asyncio
import importlib
import shlex
import sys
from collections.abc import Callable, Mapping
from time import monotonic

from deployments.environments import (
    SAMPLE_API,
    certificates_environment,
    for_dashboard,
    for_exporter,
    for_watcher,
    for_worker,
    make_environment,
    read_broker_settings,
)
from infra.local.embedded_broker import TOPIC_LIMITS
from infra.local.folder import write_privately
from infra.local.ports import LOOPBACK
from infra.local.prefect_server import wait_for_answer, wait_until_healthy
from infra.local.process import Child, wait_until
from infra.local.stack import Stack
from infra.postgres.apply import ERASER, LOADER, MONITOR
from infra.postgres.rights import READER
from schemas.errors import TerminalError

BATCH = "batch"
STREAM = "stream"
OPS = "ops"
HEALTH = "health"
ANSWER_DEADLINE_SECONDS = 120.0

Say = Callable[[str], None]


async def start_dashboard(stack: Stack, environment: Mapping[str, str]) -> str:
    """Return the dashboard's address once it answers there; it is kept alive from now on."""
    url = environment["SLUICEWAY_DASHBOARD_URL"]
    command = [sys.executable, "-m", "dash_app", *_certificate(stack, "dashboard")]
    dashboard = stack.keep("dashboard", command, for_dashboard(environment), is_apart=True)
    await wait_for_answer(
        f"{url}/healthz", dashboard.child, ANSWER_DEADLINE_SECONDS, stack.certificates
    )
    return url


def start_watchers(stack: Stack, environment: Mapping[str, str]) -> str:
    """Start what watches the platform, each kept alive; returns the address of the metrics."""
    spoken = {"SLUICEWAY_LOG_STDOUT": "true"}
    watched = spoken | certificates_environment(stack)
    for name, module, seconds in (
        (HEALTH, "flows.check_health", 60),
        ("janitor", "flows.mark_dead_runs", 30),
        ("mail", "flows.send_mail", 10),
    ):
        command = [sys.executable, "-m", module, "--every", str(seconds)]
        told = for_watcher(environment, asks_kafka=name == HEALTH)
        stack.keep(name, command, told | watched, is_apart=True)
    command = [sys.executable, "-m", "infra.exporter", *_certificate(stack, "exporter")]
    stack.keep("exporter", command, for_exporter(environment) | spoken, is_apart=True)
    keep_worker(stack, OPS, environment)
    scheme = "https" if stack.certificates else "http"
    return f"{scheme}://{LOOPBACK}:{environment['SLUICEWAY_EXPORTER_PORT']}/metrics"


def _certificate(stack: Stack, service: str) -> list[str]:
    """Return the options by which a program of ours shows its certificate."""
    if stack.certificates is None:
        return []
    pair = stack.certificates.pair(service)
    return ["--certificate", str(pair.certificate_file), "--key", str(pair.key_file)]


def keep_worker(stack: Stack, pool: str, environment: Mapping[str, str]) -> None:
    """Start a worker of that pool; it is kept alive from now on."""
    command = [sys.executable, "-m", "deployments.worker", pool, "--name", "local"]
    told = for_worker(environment, erases=pool == OPS)
    stack.keep(f"worker-{pool}", command, told, ends_children=True)


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
            "publication",
            [sys.executable, "-m", "deployments.publication"],
            stack.client_environment,
        )
        await stack.start_broker()
        environment = make_environment(stack)
        self._start_sample_api()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._bootstrap())
            group.create_task(self._ensure_topics(environment))
            group.create_task(self._watch_server(server))
            group.create_task(self._deploy(publication, environment))
        stack.is_complete = True
        write_privately(stack.folder.environment_file, render_environment(environment))
        return environment

    def _start_sample_api(self) -> None:
        port = self._stack.folder.port(SAMPLE_API)
        self._stack.start(
            SAMPLE_API, [sys.executable, "-m", "infra.sample.api", "--port", str(port)], {}
        )

    async def _bootstrap(self) -> None:
        # Its imports take seconds: Prefect's server starts meanwhile, and Ctrl-C is heard.
        module = await asyncio.to_thread(importlib.import_module, "deployments.bootstrap")
        folder = self._stack.folder
        await module.bootstrap(
            self._stack.owner_url,
            loader_password=folder.secret(LOADER),
            reader_password=folder.secret(READER),
            monitor_password=folder.secret(MONITOR),
            eraser_password=folder.secret(ERASER),
        )
        self._report("roles and tables are as the contracts want them")

    async def _ensure_topics(self, environment: Mapping[str, str]) -> None:
        module = await asyncio.to_thread(importlib.import_module, "infra.kafka.topics")
        limits = {} if self._stack.certificates else TOPIC_LIMITS
        await module.ensure_topics(read_broker_settings(environment), configs=limits)
        self._report("the broker has the stream's topics")

    async def _watch_server(self, server: Child) -> None:
        await wait_until_healthy(self._stack.prefect_port, server, self._stack.certificates)
        self._report("the Prefect server answers")

    async def _deploy(self, publication: Child, environment: Mapping[str, str]) -> None:
        stack = self._stack
        pool = f"{environment['PREFECT_API_URL']}/work_pools/{BATCH}"
        await wait_for_answer(pool, publication, ANSWER_DEADLINE_SECONDS, stack.certificates)
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
        stack.keep("keeper", [sys.executable, "-m", "deployments.keeper"], for_watcher(environment))

    def _report(self, what: str) -> None:
        self._say(f"{monotonic() - self._start_time:5.1f} s  {what}")


def render_environment(environment: Mapping[str, str]) -> str:
    """Return the lines that give a shell this environment."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
