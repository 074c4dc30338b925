"""The demo: the batch and the stream on a stack that is up, and what they left, summed up."""

from collections.abc import Callable, Mapping
from uuid import UUID

from rich.console import Console

from deployments.demo import run_deployment
from deployments.environments import read_broker_settings
from deployments.stream_demo import find_stream_shortfalls, print_stream, run_stream
from deployments.summary import find_shortfalls, print_report, read_report
from deployments.transport import (
    count_personal_cells,
    describe_cells,
    describe_transport,
    find_transport_shortfalls,
    read_transport,
    watch_connections,
)
from schemas.errors import SluicewayError, TerminalError


class Demonstration:
    """One demo, on the stack of that environment."""

    def __init__(
        self,
        console: Console,
        environment: Mapping[str, str],
        check: Callable[[], None],
        *,
        is_secured: bool,
    ) -> None:
        """Nothing has been run yet.

        check: called often; what it raises ends the demo. is_secured: nothing is to be said in
        clear.
        """
        self._console = console
        self._environment = environment
        self._url = environment["SLUICEWAY_DATABASE_URL"]
        self._check = check
        self._is_secured = is_secured

    async def run(self) -> tuple[UUID, list[str]]:
        """Return the batch's run, and a sentence for each figure that fell short."""
        async with watch_connections(self._url) as seen:
            flow_run_id, shortfalls = await self._run_pipelines()
        transport = await read_transport(seen, self._environment)
        cells = await count_personal_cells(self._url)
        self._say(f"\n{describe_transport(transport)}\n{describe_cells(cells)}")
        shortfalls += find_transport_shortfalls(transport, is_secured=self._is_secured)
        return flow_run_id, shortfalls

    async def _run_pipelines(self) -> tuple[UUID, list[str]]:
        ended = await run_deployment(self._say, self._check)
        shortfalls = [] if ended.completed else [f"the run ended as {ended.state}: {ended.message}"]
        try:
            report = await read_report(self._url, ended.flow_run_id)
        except TerminalError as error:
            shortfalls.append(str(error))
        else:
            print_report(self._console, report)
            shortfalls += find_shortfalls(report)
        if not shortfalls:
            shortfalls = await self._run_stream()
        return ended.flow_run_id, shortfalls

    async def _run_stream(self) -> list[str]:
        settings = read_broker_settings(self._environment)
        try:
            report = await run_stream(self._say, self._check, self._url, settings)
        except SluicewayError as error:
            return [str(error)]
        print_stream(self._console, report)
        return find_stream_shortfalls(report)

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
