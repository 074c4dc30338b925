"""Where the drill of the always-on consumer plays: all that a stack has, each part to be killed.

A message is produced every tenth of a second. Whether the consumers are back is not asked of any
process: they are, once PostgreSQL has a message of each partition that was produced after the
fault.
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import psutil
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import TERMINAL_STATES, FlowRun

from deployments.bootstrap import bootstrap
from deployments.keeper import DEPLOYMENT
from infra.kafka.topics import ensure_topics
from infra.local.folder import StateFolder
from infra.local.kafka import ApacheKafka
from infra.local.prefect_server import (
    api_url,
    server_command,
    server_environment,
    wait_until_healthy,
)
from infra.local.process import Child
from infra.local.revival import Revival
from infra.local.stack import DATABASE, PREFECT, Stack
from infra.postgres.apply import LOADER
from infra.postgres.connection import TRANSIENT
from infra.settings import Settings
from tasks.seats import find_sitters

CHECKOUT = Path(__file__).absolute().parents[2]
PRODUCE_SECONDS = 0.1
LOOK_SECONDS = 0.1


class DrillError(Exception):
    """The drill cannot go on; the message says what did not happen in time."""


class Stage:
    """All of the processes, a producer, and a view of what is committed."""

    def __init__(self, folder: Path, kafka: ApacheKafka, consumers: int) -> None:
        self.kafka = kafka
        state = StateFolder(folder / "stack")
        state.make()
        self.stack = Stack(state, CHECKOUT)
        self.consumers = consumers
        self.settings = Settings(kafka_bootstrap_servers=kafka.bootstrap_servers)
        self.kept: dict[str, Revival] = {}
        self.server: Child | None = None
        self.committed_at = 0.0
        """Unix time of the newest message that PostgreSQL has of every partition."""
        self.longest_gap_seconds = 0.0
        """Since it was reset: how long nothing was committed."""
        self._folder = folder
        self._helpers: list[asyncio.Task[None]] = []

    @property
    def environment(self) -> dict[str, str]:
        stack = self.stack
        url = stack.postgres.url(DATABASE, user=LOADER, password=stack.folder.secret(LOADER))
        return {
            **stack.client_environment,
            **stack.personal_keys,
            "SLUICEWAY_DATABASE_URL": url,
            "SLUICEWAY_KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "SLUICEWAY_STREAM_CONSUMERS": str(self.consumers),
            "SLUICEWAY_LOG_FOLDER": str(self._folder / "logs"),
        }

    async def start(self) -> None:
        """Leave everything running, as the local stack does, and the first messages loaded."""
        stack = self.stack
        await stack.start_postgres()
        await bootstrap(stack.owner_url, loader_password=stack.folder.secret(LOADER))
        await ensure_topics(self.settings)
        await self.start_server()
        await self.publish()
        self.start_worker()
        self.start_keeper()
        self._helpers = [
            asyncio.create_task(each()) for each in (self._produce, self._look, self._tend)
        ]
        await self.wait_until_back(time.time(), 120)

    async def stop(self) -> None:
        for each in self._helpers:
            each.cancel()
        await asyncio.gather(*self._helpers, return_exceptions=True)
        self.stack.is_complete = True
        self.stack.stop()

    def client(self) -> PrefectClient:
        return PrefectClient(api_url(self.stack.prefect_port))

    async def start_server(self) -> None:
        stack = self.stack
        url = stack.postgres.url(PREFECT, user=PREFECT, password=stack.folder.secret(PREFECT))
        self.server = stack.start(
            "prefect-server",
            server_command(stack.prefect_port),
            server_environment(stack.folder, stack.prefect_port, url),
        )
        await wait_until_healthy(stack.prefect_port, self.server)

    def stop_server(self) -> None:
        assert self.server is not None
        self.stack.dismiss(self.server)

    def start_worker(self) -> None:
        command = [sys.executable, "-m", "deployments.worker", "stream", "--name", "drill"]
        self.kept["worker"] = self.stack.keep("worker-stream", command, self.environment)

    def start_keeper(self) -> None:
        command = [sys.executable, "-m", "deployments.keeper"]
        self.kept["keeper"] = self.stack.keep("keeper", command, self.environment)

    def kill(self, name: str) -> None:
        """End the worker or the keeper by kill -9; it is started again."""
        self.kept[name].child.send_signal(signal.SIGKILL)

    async def kill_consumer(self, number: int = 1) -> None:
        """End a consumer's process by kill -9."""
        psutil.Process(await self.consumer_pid(number)).kill()

    async def consumer_pid(self, number: int = 1) -> int:
        connection = await asyncpg.connect(self.stack.owner_url)
        try:
            pid = await connection.fetchval(
                "SELECT process_id FROM metadata.pipeline_executions WHERE status = 'RUNNING'"
                " AND (parameters ->> 'consumer')::int = $1 ORDER BY id DESC LIMIT 1",
                number,
            )
        finally:
            await connection.close()
        if pid is None:
            raise DrillError(f"Consumer {number} is not there.")
        return int(pid)

    async def seats(self) -> dict[int, UUID | None]:
        """Return who sits where, by consumer."""
        connection = await asyncpg.connect(self.environment["SLUICEWAY_DATABASE_URL"])
        try:
            sitters = await find_sitters(connection, self.settings.kafka_group)
        finally:
            await connection.close()
        return {number: each.flow_run_id for number, each in sitters.items() if number}

    async def living(self) -> list[FlowRun]:
        """Return the runs that Prefect has as not ended."""
        async with self.client() as client:
            return await read_living(client)

    async def wait_until_back(self, since: float, deadline_seconds: float) -> float:
        """Return how long after `since` a message was committed that was produced after it."""
        while self.committed_at <= since:
            if time.time() - since > deadline_seconds:
                raise DrillError(f"No consumer was back after {deadline_seconds:g} s.")
            for each in self._helpers:
                if each.done():
                    each.result()
            await asyncio.sleep(LOOK_SECONDS)
        return time.time() - since

    async def wait_until_settled(self, deadline_seconds: float = 180) -> None:
        """Return once each wanted consumer is one run, alive for Prefect and in its seat."""
        await wait_for(self._is_settled, deadline_seconds, "Prefect and the seats do not agree")

    async def _is_settled(self) -> bool:
        try:
            seats = await self.seats()
            living = await self.living()
        except (httpx.HTTPError, *TRANSIENT):
            return False
        names = {run.state_name for run in living}
        return (
            set(seats) == set(range(1, self.consumers + 1))
            and {run.id for run in living} == set(seats.values())
            and names <= {"Running"}
        )

    async def publish(self) -> None:
        """Make the pools and the deployments, once more too."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "deployments.publication"),
            cwd=CHECKOUT,
            env={**os.environ, **self.environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        if process.returncode:
            raise DrillError(f"The deployments were not made: {said.decode()[-2000:]}")

    async def _produce(self) -> None:
        number = 0
        while True:
            with suppress(KafkaError, OSError):
                producer = AIOKafkaProducer(
                    bootstrap_servers=self.kafka.bootstrap_servers, request_timeout_ms=5_000
                )
                try:
                    await producer.start()
                    while True:
                        number += 1
                        await producer.send_and_wait(
                            self.settings.kafka_topic, _message(number), key=str(number).encode()
                        )
                        await asyncio.sleep(PRODUCE_SECONDS)
                finally:
                    await producer.stop()
            await asyncio.sleep(PRODUCE_SECONDS)

    async def _look(self) -> None:
        advanced_at = time.monotonic()
        while True:
            with suppress(*TRANSIENT):
                connection = await asyncpg.connect(self.stack.owner_url, timeout=5)
                try:
                    while True:
                        newest = await connection.fetchval(
                            "SELECT min(last_timestamp_ms) FROM metadata.stream_offsets", timeout=5
                        )
                        gap = time.monotonic() - advanced_at
                        self.longest_gap_seconds = max(self.longest_gap_seconds, gap)
                        if newest and newest / 1000 > self.committed_at:
                            self.committed_at = newest / 1000
                            advanced_at = time.monotonic()
                        await asyncio.sleep(LOOK_SECONDS)
                finally:
                    connection.terminate()
            await asyncio.sleep(LOOK_SECONDS)

    async def _tend(self) -> None:
        while True:
            for each in self.kept.values():
                each.tend()
            await asyncio.sleep(1)


async def read_living(client: PrefectClient) -> list[FlowRun]:
    """Return the deployment's runs that have not ended."""
    deployment = await client.read_deployment_by_name(DEPLOYMENT)
    runs = await client.read_flow_runs(limit=200)
    return [
        run
        for run in runs
        if run.deployment_id == deployment.id
        and run.state is not None
        and run.state.type not in TERMINAL_STATES
    ]


async def wait_for(
    condition: Callable[[], Awaitable[bool]], deadline_seconds: float, complaint: str
) -> None:
    end_time = time.monotonic() + deadline_seconds
    while not await condition():
        if time.monotonic() > end_time:
            raise DrillError(f"{complaint} after {deadline_seconds:g} s.")
        await asyncio.sleep(0.5)


def _message(number: int) -> bytes:
    payload: dict[str, Any] = {
        "order_id": number,
        "customer_id": 1,
        "product_id": 1,
        "order_date": "2026-01-01",
        "quantity": 1,
        "unit_price": 1.0,
    }
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    envelope = {"source": "sales_data", "timestamp": f"{stamp}.{number % 1000:03d}Z"}
    return json.dumps({**envelope, "payload": payload}).encode()
