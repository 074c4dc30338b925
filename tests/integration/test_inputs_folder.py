"""What can be wrong with a file as such, whatever it says: names, kinds, rights, changes."""

import json
import multiprocessing
import os
from pathlib import Path

import pytest

from infra.postgres.connection import Pool
from schemas.datasets import DATASETS, Customers
from schemas.errors import RefusedError, TransientError
from tasks.discover_files import discover_files
from tasks.extract_csv import CsvFile
from tasks.load import Order, load_source
from tasks.load_file import load_found

HEADER = "customer_id,name,signup_date\n"
NOBODY = 65534


@pytest.mark.parametrize("change", ["grow", "vanish", "replace"])
async def test_a_file_that_changes_while_it_is_read_leaves_nothing_and_can_be_tried_again(
    tmp_path: Path, pool: Pool, execution_id: int, change: str
) -> None:
    path = tmp_path / "customers.csv"
    rows = 20_000
    path.write_text(HEADER + "".join(f"{n},Ann {n},2024-01-01\n" for n in range(1, rows + 1)))
    whole = path.read_bytes()
    done = []

    def alter(_: int) -> None:
        if done:
            return
        done.append(change)
        if change == "grow":
            with path.open("a") as file:
                file.write("99999,Late,2024-01-01\n")
        elif change == "vanish":
            path.unlink()
        else:
            path.rename(tmp_path / "moved")
            path.write_bytes(whole)

    order = Order(execution_id, str(path), "customers", Customers.spec)
    # Blocks so small that most of the file is still unread when the first one is reported.
    source = CsvFile(path, block_bytes=4096)
    with pytest.raises(TransientError, match="changed while it was being read"):
        await load_source(pool, source, order, on_progress=alter)
    assert await count(pool, "warehouse.dim_customers") == 0
    assert await count(pool, "metadata.source_files") == 0
    path.write_bytes(whole)
    again = await load_source(pool, CsvFile(path), order)
    assert again.ledger.inserted == rows


async def test_a_file_that_is_gone_before_it_is_opened_is_refused(
    tmp_path: Path, pool: Pool, execution_id: int, load
) -> None:
    path = tmp_path / "customers.csv"
    path.write_text(HEADER + "1,Ann,2024-01-01\n")
    await load(path)
    [found], _ = discover_files(tmp_path, [each.spec for each in DATASETS])
    path.unlink()
    order = Order(execution_id, str(path), found.table, found.spec)
    with pytest.raises(RefusedError, match="does not exist; check the folder and the name"):
        await load_found(pool, found, order)


def _open_as_nobody(path: str, answers: "multiprocessing.Queue[str]") -> None:
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    for attempt in (
        lambda: CsvFile(Path(path)).header,
        lambda: discover_files(Path(path).parent / "closed", []),
    ):
        try:
            attempt()
        except RefusedError as error:
            answers.put(str(error))
        except BaseException as error:  # noqa: BLE001 - told to the test
            answers.put(repr(error))
        else:
            answers.put("it was opened")


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_a_file_and_a_folder_without_permission_are_refused_with_a_sentence(
    tmp_path: Path,
) -> None:
    path = tmp_path / "customers.csv"
    path.write_text(HEADER)
    path.chmod(0o600)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for parent in (tmp_path, *tmp_path.parents):
        if not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o001)
    # Forked: what is imported stays imported for a user who may not read this checkout.
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=_open_as_nobody, args=(str(path), answers))
    child.start()
    said = [answers.get(timeout=60), answers.get(timeout=60)]
    child.join(timeout=60)
    assert said == [
        f"{path} may not be read by this user; give it read permission.",
        f"The folder {closed} may not be read by this user: give it read permission.",
    ]


async def test_a_file_without_a_contract_is_staged_as_text_with_lineage_and_never_merged(
    tmp_path: Path, pool: Pool, load
) -> None:
    path = tmp_path / "suppliers.csv"
    path.write_text("id,Name,since\n1,Ann,2024-01-01\nx,,soon\n3,too,many,cells\n")
    report = await load(path)
    async with pool.acquire() as connection:
        rows = await connection.fetch(
            "SELECT id, name, since, _line, _source FROM staging.suppliers"
        )
        tables = await connection.fetchval(
            "SELECT count(*) FROM pg_tables WHERE schemaname = 'warehouse' AND tablename ~ 'suppl'"
        )
        contracted = await connection.fetchval("SELECT contracted FROM metadata.source_files")
    assert [tuple(row) for row in rows] == [
        ("1", "Ann", "2024-01-01", 2, str(path)),
        ("x", None, "soon", 3, str(path)),
    ]
    assert (report.ledger.read, report.ledger.inserted, report.rules) == (3, 2, {"column_count": 1})
    assert (tables, contracted) == (0, False)
    assert any("no contract" in note for note in report.notes)


async def test_another_version_of_an_uncontracted_file_keeps_what_its_header_adds_or_lacks(
    tmp_path: Path, pool: Pool, load
) -> None:
    path = tmp_path / "suppliers.csv"
    path.write_text("id,name\n1,Ann\n")
    await load(path)
    path.write_text("name,Id,Phone No.\nBo,2,555\n")
    report = await load(path)
    async with pool.acquire() as connection:
        rows = await connection.fetch(
            "SELECT id, name, _extra->>'phone_no' AS phone FROM staging.suppliers ORDER BY id"
        )
    assert [tuple(row) for row in rows] == [("1", "Ann", None), ("2", "Bo", "555")]
    assert any("loaded again: its content changed" in note for note in report.notes)


async def test_wide_files_keep_every_cell_whatever_their_width(
    tmp_path: Path, pool: Pool, load
) -> None:
    path = tmp_path / "wide.csv"
    width = 1500
    long = "ä" * 40
    path.write_text(
        ",".join(f"c{n}" for n in range(width))
        + "\n"
        + ",".join(f"{long} {n}" for n in range(width))
        + "\n"
    )
    report = await load(path)
    assert report.ledger.inserted == 1
    async with pool.acquire() as connection:
        row = await connection.fetchrow(
            "SELECT to_jsonb(w) || w._extra AS all FROM staging.wide AS w"
        )
    kept = json.loads(row["all"])
    assert {f"c{n}": kept[f"c{n}"] for n in range(width)} == {
        f"c{n}": f"{long} {n}" for n in range(width)
    }


async def count(pool: Pool, table: str) -> int:
    async with pool.acquire() as connection:
        return await connection.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608
