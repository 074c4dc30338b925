"""The quarantine as a file: who gets it, what stands in it, and that it is no trap."""

import csv
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from dash_app import export as module
from dash_app.access.users import Role, User, enter
from dash_app.export import HEADER, PATH, export_address, register_export
from dash_app.queries.quarantine import read_choice

Ask = Callable[..., Awaitable[httpx.Response]]


@pytest.fixture
async def ask(reader) -> AsyncIterator[Ask]:
    """Get an address as a user of that role."""
    server = FastAPI()
    register_export(server, reader)
    transport = httpx.ASGITransport(server)
    async with httpx.AsyncClient(transport=transport, base_url="http://dashboard") as client:

        async def get(address: str = PATH, role: Role = Role.OPERATOR) -> httpx.Response:
            enter(User("someone", role))
            return await client.get(address)

        yield get


def table_of(answer: httpx.Response) -> list[dict[str, str]]:
    assert answer.status_code == 200, answer.text
    return list(csv.DictReader(io.StringIO(answer.text, newline="")))


async def quarantine(loader: Any, *rows: dict[str, Any]) -> None:
    for number, row in enumerate(rows):
        given = {
            "dataset": "sales_data",
            "source": "sales.csv",
            "line": number + 2,
            "rule": "type",
            "column_name": "quantity",
            "reason": "quantity 'x' is not an integer of 64 bits",
            "raw": "1;x",
            "execution_id": 1,
            "raw_sealed": None,
        } | row
        await loader.execute(
            """
            INSERT INTO metadata.quarantine
                (execution_id, batch_id, dataset, source, line, rule, column_name, reason, raw,
                 raw_sealed)
            VALUES ($8, 1, $1, $2, $3, $4, $5, $6, $7, $9)
            """,
            *given.values(),
        )


async def test_an_operator_gets_the_rows_the_newest_first(ask, loader) -> None:
    await quarantine(loader, {"raw": '1;"a ""b""\nc"'}, {"line": 9, "column_name": None})

    answer = await ask()

    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["cache-control"] == "no-store"
    disposition = answer.headers["content-disposition"]
    assert disposition.startswith('attachment; filename="quarantine-20')
    assert disposition.endswith('.csv"')
    newest, oldest = table_of(answer)
    assert tuple(newest) == HEADER
    assert (newest["line"], newest["column_name"], newest["replayed_at"]) == ("9", "", "")
    assert newest["quarantined_at"].endswith("+00:00")
    assert oldest["raw"] == '1;"a ""b""\nc"'
    assert oldest["reason"] == "quantity 'x' is not an integer of 64 bits"


async def test_a_viewer_gets_a_sentence_and_no_row(ask, loader) -> None:
    await quarantine(loader, {"raw": "secret"})

    answer = await ask(role=Role.VIEWER)

    assert answer.status_code == 403
    assert answer.text == "Only an operator may export the quarantine: log in as one."


async def test_an_encrypted_row_is_called_so_and_has_its_number(ask, loader) -> None:
    await quarantine(loader, {"dataset": "customers", "raw": None, "raw_sealed": b"\x01cell"})

    answer = await ask()

    [row] = table_of(answer)
    assert (row["id"], row["raw"]) == ("1", "encrypted")
    assert "cell" not in answer.text


async def test_rows_that_may_be_personal_are_masked_for_operators_too(ask, loader) -> None:
    await quarantine(
        loader,
        {"dataset": "customers", "raw": "7;Ada;ada@x.org", "reason": "city 'Ada' is not a date"},
        {"dataset": "of_nobody", "raw": "8;Bob", "reason": "'Bob' holds a NUL character"},
    )

    answer = await ask()

    assert "Ada" not in answer.text
    assert "ada" not in answer.text
    assert "Bob" not in answer.text
    assert [row["raw"] for row in table_of(answer)] == ["•;•••", "•;•••;•••@•.•••"]


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r", "\n"])
async def test_no_cell_begins_like_a_formula(ask, loader, begin: str) -> None:
    bad = f"{begin}HYPERLINK(1)"
    await quarantine(loader, dict.fromkeys(("source", "rule", "column_name", "reason", "raw"), bad))

    [row] = table_of(await ask())

    assert [name for name, cell in row.items() if cell == f"'{bad}"] == [
        "source",
        "rule",
        "column_name",
        "reason",
        "raw",
    ]


async def test_the_filters_of_the_page_choose_the_rows(ask, loader) -> None:
    await quarantine(
        loader,
        {"raw": "a", "rule": "missing", "execution_id": 5},
        {"raw": "b", "rule": "missing", "dataset": "products"},
        {"raw": "c", "reason": "quantity 'NINE %' breaks it"},
    )

    async def raws(**given: Any) -> str:
        choice = read_choice(*(given.get(n) for n in ("dataset", "rule", "execution", "text")))
        return "".join(row["raw"] for row in table_of(await ask(export_address(choice))))

    assert await raws() == "cba"
    assert await raws(rule="missing") == "ba"
    assert await raws(rule="missing", dataset="products") == "b"
    assert await raws(execution="5") == "a"
    assert await raws(execution="5", rule="type") == ""
    assert await raws(execution="drop table") == ""
    assert await raws(text="nine %") == "c"
    assert await raws(text="'") == "cba"
    assert await raws(text="' OR 1=1 --") == ""
    assert await raws(dataset="sales_data' --\0") == ""


async def test_block_after_block_makes_one_whole(ask, loader, monkeypatch) -> None:
    monkeypatch.setattr(module, "BLOCK_ROWS", 4)
    await quarantine(
        loader,
        *(
            {"raw": str(number), "reason": ["odd", "even"][1 - number % 2]}
            for number in range(1, 13)
        ),
    )

    assert [row["raw"] for row in table_of(await ask())] == [str(n) for n in range(12, 0, -1)]
    found = [row["raw"] for row in table_of(await ask(f"{PATH}?text=even"))]
    assert found == ["12", "10", "8", "6", "4", "2"]


async def test_no_more_rows_than_a_spreadsheet_opens(ask, loader, monkeypatch) -> None:
    monkeypatch.setattr(module, "BLOCK_ROWS", 4)
    monkeypatch.setattr(module, "MAX_ROWS", 6)
    await quarantine(loader, *({"raw": str(number)} for number in range(1, 11)))

    assert [row["raw"] for row in table_of(await ask())] == ["10", "9", "8", "7", "6", "5"]


async def test_a_row_as_long_as_a_file_is_cut(ask, loader) -> None:
    await quarantine(loader, {"raw": "x" * 40_000}, {"raw": "y" * 32_767})

    short, long = table_of(await ask())

    assert short["raw"] == "y" * 32_767
    assert long["raw"] == "x" * 32_767 + "…"


async def test_without_a_database_there_is_a_sentence_and_no_file(gone) -> None:
    server = FastAPI()
    register_export(server, gone)
    enter(User("otto", Role.OPERATOR))
    transport = httpx.ASGITransport(server)
    async with httpx.AsyncClient(transport=transport, base_url="http://dashboard") as client:
        answer = await client.get(PATH)

    assert answer.status_code == 503
    assert answer.text.startswith("The database is away")
