"""What a stolen disk tells of a PostgreSQL that ran on it: an image of it is searched for a marker.

Each claim has its counter-proof: the same steps without the protection leave the marker there.
"""

import errno
from pathlib import Path

import pytest

from deployments.bootstrap import bootstrap
from infra.local.postgres import Postgres
from infra.postgres.connection import Pool
from schemas.datasets import Customers
from tasks.discover_files import discover_files
from tasks.load import Order, Outcome
from tasks.load_file import load_found
from tests.conftest import FAST, LOADER_PASSWORD, skip_or_fail
from tests.encrypted_volume import (
    Volume,
    find_missing_program,
    find_obstacle,
    make_volume_key,
)

SMALL = {
    **FAST,
    "max_wal_size": "64MB",
    "min_wal_size": "32MB",
    # A compressed page would hide the marker from the search, which is not what is claimed.
    "wal_compression": "off",
}
MARKER = "only-whoever-has-the-key-reads-this-line"
FILE_NAME = "PG_VERSION"
EMAIL = "ada.marker@personal-cells.example"
CITY = "Marker-upon-Search"


@pytest.fixture(scope="module", autouse=True)
def _volumes() -> None:
    """Encrypted images can be mounted here."""
    if program := find_missing_program():
        skip_or_fail(f"{program} is not installed: run `make system-packages`")
    if obstacle := find_obstacle():
        # Not a package that is missing, so that nothing could be installed for it.
        pytest.skip(f"{obstacle}: run this as root on a kernel with loop devices and fscrypt")


def server_on(volume: Volume) -> Postgres:
    return Postgres(volume.store / "data", settings=SMALL)


def write_marker(server: Postgres) -> None:
    with server:
        server.execute("CREATE TABLE note (line text)")
        server.execute(f"INSERT INTO note VALUES ('{MARKER}'); CHECKPOINT")  # noqa: S608 - a constant


def test_without_encryption_the_image_holds_what_postgresql_wrote(tmp_path: Path) -> None:
    with Volume(tmp_path) as volume:
        write_marker(server_on(volume))
        volume.unmount()
        assert volume.holds(MARKER.encode())
        assert volume.holds(FILE_NAME.encode())


def test_with_encryption_the_image_holds_neither_rows_nor_file_names_and_the_key_opens_it(
    tmp_path: Path,
) -> None:
    key = make_volume_key()
    with Volume(tmp_path, key=key) as volume:
        server = server_on(volume)
        write_marker(server)
        assert (volume.store / "data" / FILE_NAME).exists()
        volume.lock()
        expect_locked(volume)
        volume.unmount()
        assert not volume.holds(MARKER.encode())
        assert not volume.holds(FILE_NAME.encode())

        volume.mount()
        expect_locked(volume)
        volume.unlock(make_volume_key())
        expect_locked(volume)
        volume.unlock(key)
        with server:
            assert server.execute("SELECT line FROM note") == MARKER


def expect_locked(volume: Volume) -> None:
    """No name can be told, nothing read, nothing written; PostgreSQL does not start either."""
    entries = list(volume.store.iterdir())
    assert entries
    assert volume.store / "data" not in entries
    with pytest.raises(FileNotFoundError):
        (volume.store / "data" / FILE_NAME).read_text()
    for file in filter(Path.is_file, entries):
        with pytest.raises(OSError, match="key") as unread:
            file.read_bytes()
        assert unread.value.errno == errno.ENOKEY
    with pytest.raises(OSError, match="key") as refused:
        server_on(volume).start()
    assert refused.value.errno == errno.ENOKEY


async def test_a_personal_cell_is_not_in_the_image_even_where_the_volume_is_plain(
    tmp_path: Path,
) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "customers.csv").write_text(
        "customer_id,name,email,city,signup_date\n"
        f"1,Ada,{EMAIL},{CITY},2024-01-01\n"
        # Refused for its date: the quarantine keeps the row as it came.
        f"2,Ada,{EMAIL},{CITY},not a date\n"
    )
    with Volume(tmp_path) as volume:
        with server_on(volume) as server:
            server.ensure_database("platform")
            await bootstrap(server.url("platform"), loader_password=LOADER_PASSWORD)
            url = server.url("platform", user="sluiceway_loader", password=LOADER_PASSWORD)
            async with Pool(url) as pool:
                async with pool.acquire() as connection:
                    run = await connection.fetchval(
                        "INSERT INTO metadata.pipeline_executions (pipeline_name) VALUES ('rest') "
                        "RETURNING id"
                    )
                [found], _ = discover_files(inbox, [Customers.spec])
                order = Order(run, str(found.path), found.table, found.spec)
                report = await load_found(pool, found, order)
            assert report.outcome is Outcome.LOADED
            assert (report.ledger.inserted, report.ledger.quarantined) == (1, 1)
            server.execute("CHECKPOINT")
        volume.unmount()
        # The write-ahead log, the quarantine and the server's log are in the image too.
        assert volume.holds(CITY.encode())
        assert not volume.holds(EMAIL.encode())
