"""The cases of the kill tests: what is killed, and what has to be true afterwards."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.chaos.dead_runs_input import ROWS, WHOLE
from tests.chaos.dead_runs_stage import Caught, DrillError, Stage, kill_process

HISTORY_SECONDS = 120.0
MAIL_SECONDS = 180.0
"""A mail waits for the minute after the last one about the pipeline, and is then sent."""
NEXT_RUN_SECONDS = 240.0


@dataclass(frozen=True)
class Finding:
    """What a case showed."""

    said: str
    history_seconds: float
    """From the kill, or from the start of the janitor, until the history was true."""
    mail_seconds: float | None = None
    """From the kill until the mail was there; None: there was none to come."""
    next_seconds: float = 0.0
    """Until the next run had done the rest."""


class Drill:
    """The cases; each leaves all processes running, and everything loaded."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.case = 0

    async def kill_flow(self) -> Finding:
        """kill -9 of the flow's process"""
        run = await self._catch()
        killed_at = time.monotonic()
        kill_process(run.process_id)
        return await self._expect_dead(run, killed_at)

    async def kill_worker(self) -> Finding:
        """kill -9 of the worker alone"""
        run = await self._catch()
        stage = self.stage
        killed_at = time.monotonic()
        stage.kill("worker")
        # Two rounds of the janitor leave a run alone that lives.
        rounds_end = killed_at + 70
        while time.monotonic() < rounds_end and await self._status(run) == "RUNNING":
            await self._require_no_hanging()
            await asyncio.sleep(1)
        if await self._status(run) != "RUNNING":
            stage.start_process("worker")
            return await self._expect_dead(run, killed_at)
        stage.partner.is_open.set()
        seconds = await self._wait_for_status(run, {"SUCCESS", "FAILED"})
        if await stage.view.count_acts("marked dead", run.flow_run_id):
            raise DrillError("The run was said to be dead, though it lived.")
        await self._check_untouched()
        stage.start_process("worker")
        row = await stage.view.read_run(run.execution_id)
        if row["status"] == "SUCCESS":
            if await stage.view.count_rows(run.case) != WHOLE:
                raise DrillError("The run that outlived its worker has not loaded everything.")
            await self._wait_until_told()
            if self.stage.failure_mails(self.mails_before, ""):
                raise DrillError("A mail says that a run failed, and none did.")
            return Finding("the run outlives its worker, and ends as SUCCESS by itself", seconds)
        # Its lines went to its worker: it lived until it had one to write.
        reason = "The worker that printed the run's lines was killed"
        if reason not in row["error_message"]:
            raise DrillError(f"The reason does not name the worker: {row['error_message']}")
        await self._wait_for_mail(reason)
        mail_seconds = time.monotonic() - killed_at
        rest = await self._do_the_rest(run.case)
        await self._require_one_mail(reason)
        said = "the run ends itself at its next line, and says why"
        return Finding(said, seconds, mail_seconds, rest)

    async def kill_both(self) -> Finding:
        """kill -9 of flow and worker"""
        run = await self._catch()
        killed_at = time.monotonic()
        self.stage.kill("worker")
        kill_process(run.process_id)
        return await self._expect_dead(run, killed_at, restart=("worker",))

    async def kill_server(self) -> Finding:
        """kill -9 of Prefect server and flow"""
        run = await self._catch()
        killed_at = time.monotonic()
        self.stage.kill("server")
        kill_process(run.process_id)
        return await self._expect_dead(run, killed_at, restart=("server",))

    async def kill_all(self) -> Finding:
        """kill -9 of flow, worker, janitor and mail, which come back half a minute later"""
        run = await self._catch()
        for name in ("mail", "janitor", "worker"):
            self.stage.kill(name)
        kill_process(run.process_id)
        await asyncio.sleep(30)
        if await self._status(run) != "RUNNING":
            raise DrillError("Nobody was there to say so, and the history has an end of the run.")
        started_at = time.monotonic()
        self.stage.start_process("janitor")
        self.stage.start_process("mail")
        return await self._expect_dead(run, started_at, restart=("worker",))

    async def kill_machine(self) -> Finding:
        """kill -9 of flow and worker on another machine than the janitor's"""
        run = await self._catch()
        # From here its process cannot be seen, no more than one of another container.
        await self.stage.view.fetch(
            "UPDATE metadata.pipeline_executions SET process_identity = 'another boot/1/1/1'"
            " WHERE id = $1",
            run.execution_id,
        )
        killed_at = time.monotonic()
        self.stage.kill("worker")
        kill_process(run.process_id)
        return await self._expect_dead(run, killed_at, restart=("worker",), was="is lost")

    async def _catch(self) -> Caught:
        self.case += 1
        self.before = await self.stage.view.read_ended()
        self.mails_before = len(self.stage.mails.received)
        return await self.stage.catch_run(self.case)

    async def _expect_dead(
        self, run: Caught, since: float, restart: tuple[str, ...] = (), was: str = "was killed"
    ) -> Finding:
        """Return how long it took until the run's end was recorded, told of, and made good."""
        stage = self.stage
        await self._wait_for_status(run, {"FAILED"})
        history_seconds = time.monotonic() - since
        reason = f"The run {was}: its process {run.process_id} on"
        await self._check_row(run, reason)
        for name in restart:
            if name == "server":
                await stage.start_server()
            else:
                stage.start_process(name)

        await self._wait_for_mail(reason)
        mail_seconds = time.monotonic() - since

        async def is_crashed() -> bool:
            return await stage.prefect_state(run.flow_run_id) == "Crashed"

        await stage.wait_for(is_crashed, HISTORY_SECONDS, "Prefect did not say Crashed of the run")
        next_seconds = await self._do_the_rest(run.case)
        await self._require_one_mail(reason)
        told = await stage.view.count_acts("told Prefect", run.flow_run_id)
        teller = "by the janitor" if told else "by the worker"
        return Finding(f"Prefect was told {teller}", history_seconds, mail_seconds, next_seconds)

    async def _wait_for_mail(self, reason: str) -> None:
        async def has_come() -> bool:
            return bool(self.stage.failure_mails(self.mails_before, reason))

        await self.stage.wait_for(has_come, MAIL_SECONDS, "No mail about the run came")

    async def _require_one_mail(self, reason: str) -> None:
        """Raise where not one mail, and no other one of a failure, has come when all is told."""
        await self._wait_until_told()
        about = len(self.stage.failure_mails(self.mails_before, reason))
        every = len(self.stage.failure_mails(self.mails_before, ""))
        if (about, every) != (1, 1):
            raise DrillError(f"{about} mails about the run came, of {every}, where one should.")

    async def _check_row(self, run: Caught, reason: str) -> None:
        """Raise where the run's row does not say what is known, or another one was changed."""
        stage = self.stage
        row = await stage.view.read_run(run.execution_id)
        for part in (
            reason,
            "Last heard of at",
            f"2 sources with {2 * ROWS} rows",
        ):
            if part not in row["error_message"]:
                raise DrillError(f"The reason does not say “{part}”: {row['error_message']}")
        if row["records_processed"] != 2 * ROWS or row["end_time"] is None:
            raise DrillError(f"The row of the run is not whole: {dict(row)}")
        if await stage.view.count_acts("marked dead", run.flow_run_id) != 1:
            raise DrillError("There is not one act of the janitor's about the run.")
        await self._check_untouched()

    async def _check_untouched(self) -> None:
        """Raise where a run hangs, or one that had ended was changed."""
        await self._require_no_hanging()
        after = await self.stage.view.read_ended()
        if {each: after.get(each) for each in self.before} != self.before:
            raise DrillError("A run that had ended was changed.")

    async def _do_the_rest(self, case: int) -> float:
        """Return how long it took until another run had loaded what the killed one had not."""
        stage = self.stage
        stage.partner.is_open.set()
        started_at = time.monotonic()
        flow_run_id = await stage.begin_run()

        async def has_ended() -> bool:
            return bool(
                await stage.view.fetchval(
                    "SELECT EXISTS (SELECT FROM metadata.pipeline_executions"
                    " WHERE flow_run_id = $1 AND status = 'SUCCESS')",
                    flow_run_id,
                )
            )

        await stage.wait_for(has_ended, NEXT_RUN_SECONDS, "The next run did not end well")
        rows = await stage.view.count_rows(case)
        if rows != WHOLE:
            raise DrillError(f"The next run left {rows} of the case, where {WHOLE} should be.")
        return time.monotonic() - started_at

    async def _wait_until_told(self) -> None:
        """Wait until every event is in a mail, so that the next case begins with none."""

        async def is_told() -> bool:
            return not await self.stage.view.fetchval(
                "SELECT count(*) FROM metadata.alert_events WHERE handled_at IS NULL"
            )

        await self.stage.wait_for(is_told, MAIL_SECONDS, "Not every event was told")

    async def _status(self, run: Caught) -> str:
        return str((await self.stage.view.read_run(run.execution_id))["status"])

    async def _wait_for_status(self, run: Caught, wanted: set[str]) -> float:
        async def is_so() -> bool:
            return await self._status(run) in wanted

        return await self.stage.wait_for(
            is_so, HISTORY_SECONDS, f"The run was not {' or '.join(sorted(wanted))}"
        )

    async def _require_no_hanging(self) -> None:
        hanging = await self.stage.view.find_hanging()
        if hanging:
            raise DrillError(f"Runs without a process are RUNNING: {hanging}.")


def cases(drill: Drill) -> dict[str, Callable[[], Awaitable[Finding]]]:
    """Return the cases by name, in the order in which they are played."""
    return {
        "kill-flow": drill.kill_flow,
        "kill-worker": drill.kill_worker,
        "kill-both": drill.kill_both,
        "kill-server": drill.kill_server,
        "kill-all": drill.kill_all,
        "kill-machine": drill.kill_machine,
    }
