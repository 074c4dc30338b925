"""The whole demo, batch and stream, with TLS: nobody speaks to PostgreSQL in clear meanwhile."""

import asyncio
import re
import sys
from pathlib import Path
from urllib.parse import quote

import asyncpg
import psutil
import pytest

from infra.local.binaries import find_secured_binaries
from infra.local.folder import StateFolder, read_json
from infra.local.kafka_probe import list_brokers
from infra.local.orphans import find_marked
from infra.postgres.connection import connect
from schemas.errors import SettingError, SluicewayError, TerminalError
from tests.conftest import skip_or_fail

REPOSITORY = Path(__file__).parents[2]
CHECKOUT = ("schemas", "infra", "tasks", "flows", "deployments", "data", "prefect.yaml", ".kafka")
LOOK_SECONDS = 0.1
ROLES = {"postgres", "prefect", "sluiceway_owner", "sluiceway_loader"}
SESSIONS = """
    SELECT a.usename, s.ssl FROM pg_stat_activity AS a JOIN pg_stat_ssl AS s USING (pid)
    WHERE a.backend_type = 'client backend' AND a.usename IS NOT NULL
"""


class Watch:
    """Looks at the demo while it runs, as a superuser of its PostgreSQL."""

    def __init__(self, state: StateFolder) -> None:
        self._state = state
        self.sessions: set[tuple[str, bool]] = set()
        self.told: dict[str, set[str]] = {}
        """Settings by process, of those that hold a secret."""
        self.refused_in_clear: set[str] = set()

    async def run(self) -> None:
        while True:
            try:
                connection = await connect(self._url(secured=True), wait_seconds=1)
            except (SluicewayError, OSError):  # it is not there yet
                await asyncio.sleep(LOOK_SECONDS)
                continue
            try:
                await self._try_in_clear()
                while True:
                    rows = await connection.fetch(SESSIONS)
                    self.sessions |= {(row["usename"], row["ssl"]) for row in rows}
                    self._look_at_processes()
                    await asyncio.sleep(LOOK_SECONDS)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                return  # the demo has stopped it
            finally:
                connection.terminate()

    def _url(self, *, secured: bool) -> str:
        password = self._state.data.with_name("data.password").read_text()
        port = read_json(self._state.root / "ports.json")["postgres"]
        address = f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres"
        ca_file = quote(str(self._state.certificates / "ca.pem"))
        return f"{address}?sslmode=verify-full&sslrootcert={ca_file}" if secured else address

    async def _try_in_clear(self) -> None:
        with pytest.raises(SettingError, match="no encryption"):
            await connect(self._url(secured=False), wait_seconds=1)
        self.refused_in_clear.add("PostgreSQL")

    def _look_at_processes(self) -> None:
        for path in self._state.run.glob("*.json"):
            record = read_json(path)
            if path.stem in self.told or not record:
                continue
            try:
                environment = psutil.Process(record["pid"]).environ()
            except (psutil.Error, OSError):
                continue
            self.told[path.stem] = {
                name
                for name in environment
                if name.endswith(("DATABASE_URL", "_KEYS", "ENCRYPTION_KEY"))
            }
        if "worker-batch" in self.told and "Kafka" not in self.refused_in_clear:
            port = read_json(self._state.broker / "ports.json")["broker-1"]
            assert list_brokers(port) == frozenset()
            self.refused_in_clear.add("Kafka")


async def test_the_demo_runs_with_nothing_in_clear(kafka_programs: None, tmp_path: Path) -> None:
    try:
        find_secured_binaries()
    except TerminalError as error:
        skip_or_fail(str(error))
    for name in CHECKOUT:
        (tmp_path / name).symlink_to(REPOSITORY / name)
    state = StateFolder(tmp_path / ".sluiceway", is_secured=True)
    watch = Watch(state)
    watching = asyncio.create_task(watch.run())
    demo = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "deployments.local", "demo", "--tls"),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said = (await demo.communicate())[0].decode()
    finally:
        if demo.returncode is None:
            demo.terminate()
            await demo.wait()
        watching.cancel()
    [ended] = await asyncio.gather(watching, return_exceptions=True)
    assert ended is None or isinstance(ended, asyncio.CancelledError), ended
    assert demo.returncode == 0, said
    assert "Fell short" not in said
    assert find_marked(state.mark) == []

    found = re.search(
        r"^TLS: ([\d,]+) of ([\d,]+) connections to PostgreSQL \(TLSv1\.3", said, re.MULTILINE
    )
    assert found is not None, said
    assert found[1] == found[2] != "0"
    assert re.search(r"Kafka by SASL_SSL with SCRAM-SHA-512 \(TLSv1\.3, .*Prefect by HTTPS", said)
    cells = re.search(r"Personal cells in the warehouse: ([\d,]+), each encrypted", said)
    assert cells is not None, said
    assert cells[1] != "0"

    assert watch.refused_in_clear == {"PostgreSQL", "Kafka"}
    assert {role for role, _ in watch.sessions} >= ROLES
    assert {is_encrypted for _, is_encrypted in watch.sessions} == {True}
    worker = {"SLUICEWAY_DATABASE_URL", "SLUICEWAY_CELL_KEYS", "SLUICEWAY_INDEX_KEYS"}
    assert watch.told["worker-batch"] == watch.told["worker-stream"] == worker
    assert watch.told["keeper"] == {"SLUICEWAY_DATABASE_URL"}
    assert watch.told["prefect-server"] == {"PREFECT_SERVER_ENCRYPTION_KEY"}
    assert watch.told["sample-api"] == watch.told["kafka-1"] == set()
