"""Measures how the always-on consumer comes back, case by case: `make chaos-always-on`.

    python -m tests.chaos.always_on [--outage-seconds 360] [case ...]

A real Prefect server on PostgreSQL, a worker, the keeper and Apache Kafka. After each case the
wanted consumers are alive exactly once, in PostgreSQL and for Prefect.
"""

import argparse
import asyncio
import logging
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.states import Cancelling

from deployments.keeper import DEPLOYMENT
from deployments.pools import STREAM
from infra.local.kafka import ApacheKafka
from schemas.errors import SluicewayError
from tests.chaos.always_on_stage import DrillError, Stage, wait_for

BACK_SECONDS = 180.0
AWAY_SECONDS = 30.0
PAUSED_SECONDS = 30.0


@dataclass(frozen=True)
class Finding:
    """What a case showed."""

    said: str
    seconds: float


class Drill:
    """The cases, each of which starts from consumers that are alive."""

    def __init__(self, stage: Stage, outage_seconds: float) -> None:
        self.stage = stage
        self.outage_seconds = outage_seconds

    async def kill_flow(self) -> Finding:
        """kill -9 of the flow"""
        since = time.time()
        await self.stage.kill_consumer()
        return await self._back(since, "the worker reports it, the keeper starts another")

    async def kill_worker(self) -> Finding:
        """kill -9 of the worker"""
        before = await self.stage.seats()
        self.stage.longest_gap_seconds = 0
        self.stage.kill("worker")
        await asyncio.sleep(AWAY_SECONDS)
        if await self.stage.seats() != before:
            raise DrillError("The consumer did not outlive its worker.")
        return Finding(
            "the consumer goes on; longest gap between commits", self.stage.longest_gap_seconds
        )

    async def stop_worker(self) -> Finding:
        """SIGTERM of the worker, which ends its runs"""
        pid = await self.stage.consumer_pid()
        since = time.time()
        self.stage.kept["worker"].child.send_signal(signal.SIGTERM)

        async def has_ended() -> bool:
            return not psutil.pid_exists(pid)

        await wait_for(has_ended, BACK_SECONDS, "The consumer had not ended")
        ended_seconds = time.time() - since
        finding = await self._back(time.time(), "")
        return Finding(
            f"the consumer drains, gone after {ended_seconds:.1f} s; the worker is restarted, the "
            "keeper starts another",
            ended_seconds + finding.seconds,
        )

    async def kill_both(self) -> Finding:
        """kill -9 of flow and worker"""
        since = time.time()
        self.stage.kill("worker")
        await self.stage.kill_consumer()
        return await self._back(since, "the seat is empty: the keeper starts another")

    async def kill_all(self) -> Finding:
        """kill -9 of flow, worker and keeper"""
        since = time.time()
        self.stage.kill("keeper")
        self.stage.kill("worker")
        await self.stage.kill_consumer()
        return await self._back(since, "worker and keeper are restarted, the keeper starts another")

    async def restart_server(self) -> Finding:
        """restart of the Prefect server"""
        return await self._without_server(0)

    async def server_away(self) -> Finding:
        """Prefect server away"""
        return await self._without_server(self.outage_seconds)

    async def cancel(self) -> Finding:
        """run cancelled after such an outage"""
        [run] = [each for each in await self.stage.living() if each.parameters["consumer"] == 1]
        since = time.time()
        async with self.stage.client() as client:
            await client.set_flow_run_state(run.id, Cancelling())

        async def has_ended() -> bool:
            async with self.stage.client() as client:
                state = (await client.read_flow_run(run.id)).state
            return state is not None and state.is_final()

        await wait_for(has_ended, BACK_SECONDS, "The cancelled run had not ended")
        ended_seconds = time.time() - since
        async with self.stage.client() as client:
            state = (await client.read_flow_run(run.id)).state
        if state is None or not state.is_cancelled():
            raise DrillError(f"The cancelled run ended as {state}.")
        finding = await self._back(time.time(), "")
        return Finding(
            f"the run sees it and drains, ended after {ended_seconds:.1f} s; the keeper starts "
            "another",
            ended_seconds + finding.seconds,
        )

    async def kill_flow_without_server(self) -> Finding:
        """kill -9 of the flow while the Prefect server is away, from its return"""
        self.stage.stop_server()
        await self.stage.kill_consumer()
        await asyncio.sleep(AWAY_SECONDS)
        await self.stage.start_server()
        return await self._back(time.time(), "the keeper starts another as soon as it answers")

    async def kill_postgres(self) -> Finding:
        """PostgreSQL killed, from its return"""
        before = await self.stage.seats()
        self.stage.stack.postgres.kill()
        await asyncio.sleep(AWAY_SECONDS)
        self.stage.stack.postgres.start()
        finding = await self._back(time.time(), "the consumer waits, and takes its seat again")
        if await self.stage.seats() != before:
            raise DrillError("Another run took the seat.")
        return finding

    async def kill_broker(self) -> Finding:
        """broker killed, from its return"""
        before = await self.stage.seats()
        self.stage.kafka.kill()
        await asyncio.sleep(AWAY_SECONDS)
        self.stage.kafka.start_node()
        finding = await self._back(time.time(), "the consumer waits")
        if await self.stage.seats() != before:
            raise DrillError("Another run took the seat.")
        return finding

    async def pause(self) -> Finding:
        """work pool paused, deployed again, then resumed, from there"""
        since = time.time()
        await set_paused(self.stage, paused=True)

        async def are_gone() -> bool:
            return not await self.stage.seats() and not await self.stage.living()

        await wait_for(are_gone, BACK_SECONDS, "The paused consumers were still there")
        gone_seconds = time.time() - since
        await asyncio.sleep(PAUSED_SECONDS)
        await self.stage.publish()
        if not await are_gone():
            raise DrillError("A consumer came back though the pool is paused.")
        await set_paused(self.stage, paused=False)
        return await self._back(
            time.time(), f"gone after {gone_seconds:.1f} s and not back; the keeper starts another"
        )

    async def surplus(self) -> Finding:
        """a second run of the same consumer, until it has ended"""
        before = await self.stage.seats()
        since = time.time()
        async with self.stage.client() as client:
            deployment = await client.read_deployment_by_name(DEPLOYMENT)
            run = await client.create_flow_run_from_deployment(deployment.id)

        async def has_ended() -> bool:
            async with self.stage.client() as client:
                state = (await client.read_flow_run(run.id)).state
            return state is not None and state.is_cancelled()

        await wait_for(has_ended, BACK_SECONDS, "The surplus run had not ended as cancelled")
        if await self.stage.seats() != before:
            raise DrillError("The surplus run took the seat.")
        return Finding("the seat is taken: it ends as cancelled", time.time() - since)

    async def _without_server(self, seconds: float) -> Finding:
        before = await self.stage.seats()
        self.stage.longest_gap_seconds = 0
        self.stage.stop_server()
        await asyncio.sleep(seconds)
        await self.stage.start_server()
        await asyncio.sleep(AWAY_SECONDS)
        if await self.stage.seats() != before:
            raise DrillError("Another run took the seat.")
        return Finding(
            "the same run goes on; longest gap between commits", self.stage.longest_gap_seconds
        )

    async def _back(self, since: float, said: str) -> Finding:
        seconds = await self.stage.wait_until_back(since, BACK_SECONDS)
        return Finding(said, seconds)


async def set_paused(stage: Stage, *, paused: bool) -> None:
    """Do what `prefect work-pool pause stream` does, and `resume`."""
    async with stage.client() as client:
        await client.update_work_pool(STREAM.name, WorkPoolUpdate(is_paused=paused))


def cases(drill: Drill) -> dict[str, Callable[[], Awaitable[Finding]]]:
    """Return the cases in the order in which they are best played."""
    return {
        "kill-flow": drill.kill_flow,
        # After kill-worker the consumer is nobody's child, and hears of no worker's end.
        "stop-worker": drill.stop_worker,
        "kill-worker": drill.kill_worker,
        "kill-both": drill.kill_both,
        "kill-all": drill.kill_all,
        "surplus": drill.surplus,
        "restart-server": drill.restart_server,
        "server-away": drill.server_away,
        "cancel": drill.cancel,
        "kill-flow-without-server": drill.kill_flow_without_server,
        "kill-postgres": drill.kill_postgres,
        "kill-broker": drill.kill_broker,
        "pause": drill.pause,
    }


def say(text: str) -> None:
    """Write a line, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def play(stage: Stage, wanted: list[str], outage_seconds: float) -> bool:
    """Return whether every case went as it should, and say how long each took."""
    drill = Drill(stage, outage_seconds)
    good = True
    try:
        started = time.time()
        await stage.start()
        say(f"first commit {time.time() - started:.1f} s after the start of everything")
        for name, case in cases(drill).items():
            if wanted and name not in wanted:
                continue
            try:
                await stage.wait_until_settled()
                finding = await case()
                await stage.wait_until_settled()
                say(f"{name:26}{finding.seconds:7.1f} s  {case.__doc__}: {finding.said}")
            except DrillError as error:
                good = False
                say(f"{name:26}   FAILED  {case.__doc__}: {error}")
    finally:
        await stage.stop()
    return good


def main() -> int:
    """Return 0 when each case left the wanted consumers alive exactly once."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.always_on",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("cases", nargs="*", metavar="case", help=", ".join(NAMES))
    parser.add_argument("--outage-seconds", type=float, default=360.0)
    parser.add_argument("--consumers", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="leave the folder with the logs")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="always-on-"))
    try:
        with ApacheKafka(folder / "kafka") as kafka:
            stage = Stage(folder, kafka, given.consumers)
            good = asyncio.run(play(stage, given.cases, given.outage_seconds))
    except (SluicewayError, DrillError) as error:
        say(str(error))
        return 1
    finally:
        if given.keep:
            say(f"The logs are in {folder}.")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    say("all consumers came back, each once" if good else "not every case went as it should")
    return 0 if good else 1


NAMES = list(cases(Drill(None, 0)))  # type: ignore[arg-type] # only their names are asked for

if __name__ == "__main__":
    # That a broker was killed is no news here.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    sys.exit(main())
