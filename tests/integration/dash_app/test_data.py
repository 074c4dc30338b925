"""The data page: what is there is told, and nothing personal is read for it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from dash_app.masking import MASK
from dash_app.pages.data import draw_tables, lay_out
from dash_app.pages.data_table import (
    draw_chosen,
    draw_columns,
    draw_days,
    draw_preview,
    draw_sources,
)
from dash_app.queries import data as ask
from dash_app.reader import AwayError

CUSTOMERS = """customer_id,name,email,city,country,signup_date,credit_limit,shoe_size
1,Ada Lovelace,ada@example.org,London,UK,2024-01-02,10.50,sizeXL
2,Grace Hopper,grace@example.org,,US,2024-01-03,,sizeS
"""
PRODUCTS = """product_id,name,category,price,weight_kg,active
5,Globe,toys,12.00,,true
"""
SALES = """order_id,customer_id,product_id,order_date,quantity,unit_price,discount,channel
100,1,5,2024-02-01,2,12.00,0.1,web
"""
PARTY = """guest,allergy
Ada,nuts
"""


@pytest.fixture
async def loaded(load, tmp_path: Path) -> None:
    """A dataset of each kind, and a file that nobody wrote a contract for."""
    for name, text in (
        ("customers", CUSTOMERS),
        ("products", PRODUCTS),
        ("sales_data", SALES),
        ("party", PARTY),
    ):
        path = tmp_path / f"{name}.csv"
        path.write_text(text)
        await load(path)


def sheet(drawn: Any) -> str:
    """All the text of a preview."""
    [frame, more] = drawn
    data = frame.children.data
    return " ".join(
        [*data["head"], *(cell for row in data["body"] for cell in row), more, data["caption"]]
    )


async def grow(loader: Any, rows: int) -> None:
    """Hang a batch of its own below a dataset's staging table, as a large load does."""
    await loader.execute(
        f"""
        CREATE TABLE staging.sales_data__b900 () INHERITS (staging.sales_data);
        INSERT INTO staging.sales_data__b900
            (order_id, _line, _row_hash, _batch_id, _source, _version, _extracted_at)
        SELECT n, n, n, 900, 'big.csv', now(), now() FROM generate_series(1, {rows}) AS n;
        GRANT SELECT ON staging.sales_data__b900 TO sluiceway_reader;
        """  # noqa: S608 - a number
    )


async def test_tables_are_there_before_any_load(view, read) -> None:
    text = read(await draw_tables(view))

    assert "staging.customers" in text
    assert "warehouse.fact_sales_data fact 0 " in text
    assert "warehouse.dim_date calendar 36,890 " in text
    assert "staging.customers as received 0 16.4 kB" in text
    assert " ago" not in text


async def test_each_table_has_its_rows_and_its_last_change(view, read, loaded) -> None:
    text = read(await draw_tables(view))

    assert "/data?table=warehouse.dim_customers warehouse.dim_customers dimension 2 " in text
    assert "△ no contract 1 " in text
    assert "/data?table=staging.party" in text
    assert text.index("staging.party") > text.index("warehouse.fact_sales_data")
    assert text.count(" ago") == 7  # three datasets' tables, and the party's


async def test_batches_are_part_of_their_table(view, read, loader, loaded) -> None:
    await grow(loader, 100)

    text = read(await draw_tables(view))

    assert "staging.sales_data as received 101 " in text
    assert "__b900" not in text
    assert "in 1 batches of their own" in read(await draw_chosen(view, "staging.sales_data"))


async def test_a_large_table_is_not_counted(view, read, loader) -> None:
    await grow(loader, 60_000)

    async def rows() -> str:
        text = read(await draw_tables(view))
        return text.split("staging.sales_data as received ")[1].split(" ", maxsplit=1)[0]

    assert await rows() == "10,000+"
    await loader.execute("ANALYZE staging.sales_data__b900")
    text = read(await draw_tables(view))
    assert "staging.sales_data as received ≈ 60,000 " in text
    assert "PostgreSQL's estimate" in read(await draw_chosen(view, "staging.sales_data"))


async def test_a_table_that_a_load_has_locked_is_not_waited_for(
    view, read, database, loader, loaded
) -> None:
    async with loader.transaction():
        # As the function for a first load locks a fact.
        await loader.execute("LOCK TABLE staging.customers IN ACCESS EXCLUSIVE MODE")

        assert "staging.customers" in read(await draw_tables(view))
        assert "being loaded" in read(await draw_chosen(view, "staging.customers"))
        assert "It is being loaded." in read(await draw_preview(view, "staging.customers"))


async def test_personal_columns_are_masked_and_never_asked_for(
    view, read, reader, loaded, monkeypatch
) -> None:
    queries: list[str] = []
    fetch = reader.fetch

    async def listen(query: str, *given: Any) -> Any:
        queries.append(query)
        return await fetch(query, *given)

    monkeypatch.setattr(reader, "fetch", listen)
    for name in ("staging.customers", "warehouse.dim_customers", "customers"):
        text = sheet(await draw_preview(view, name))

        assert "London" in text
        assert "10.50" in text
        assert MASK in text
        for secret in ("Ada", "Hopper", "example.org", "sizeXL"):
            assert secret not in text
    previews = [each for each in queries if "LIMIT $1" in each]
    assert len(previews) == 3
    for each in previews:
        for column in ('"name"', '"email"', '"_extra"', '"_row_hash"'):
            assert column not in each


async def test_nothing_of_a_table_without_a_contract_is_shown(view, read, loaded) -> None:
    text = sheet(await draw_preview(view, "staging.party"))

    assert "guest allergy" in text
    assert f"{MASK} {MASK}" in text
    assert "party.csv" in text
    assert "Ada" not in text
    assert "nuts" not in text
    columns = read(await draw_columns(view, "staging.party"))
    assert f"guest text {MASK} not known: no contract" in columns


async def test_a_column_that_the_contract_forgot_is_masked(view, read, database, loaded) -> None:
    owner = await asyncpg.connect(database.owner_url)
    await owner.execute(
        "ALTER TABLE staging.customers ADD COLUMN old_phone text DEFAULT 'call 555'"
    )
    await owner.close()

    text = sheet(await draw_preview(view, "staging.customers"))

    assert "old_phone" in text
    assert "555" not in text


async def test_times_are_the_viewers_and_no_end_is_no_failure(view, read, loaded) -> None:
    text = sheet(await draw_preview(view, "warehouse.dim_products"))

    assert "infinity" in text
    assert " UTC)" in text
    assert "Globe" in text


async def test_long_cells_are_cut(view, read, load, tmp_path) -> None:
    path = tmp_path / "products.csv"
    path.write_text(PRODUCTS.replace("Globe", "G" * 150))
    await load(path)

    text = sheet(await draw_preview(view, "products"))

    assert "G" * 80 + "…" in text
    assert "G" * 81 not in text


async def test_columns_say_what_the_contract_says(view, read, loaded) -> None:
    text = read(await draw_columns(view, "warehouse.fact_sales_data"))

    assert "customer_key bigint no refers to customers" in text
    assert "channel text no may be missing" in text
    assert "_batch_id bigint no the platform's own" in text
    customers = read(await draw_columns(view, "warehouse.dim_customers"))
    assert f"email bytea {MASK} personal, encrypted may be missing" in customers
    assert "customer_key bigint no the platform's own" in customers


async def test_a_dataset_name_leads_to_its_warehouse_table(view, reader, read) -> None:
    found = await ask.find_table(reader, "sales_data")

    assert found is not None
    assert found.qualified == "warehouse.fact_sales_data"
    assert "fact_sales_data" in read(await draw_chosen(view, "sales_data"))


@pytest.mark.parametrize(
    "asked",
    [
        "nothing",
        "staging.nothing",
        "metadata.quarantine",
        "pg_catalog.pg_authid",
        "staging.sales_data; DROP TABLE staging.sales_data",
        "staging.sales_data' OR '1'='1",
        '"staging"."sales_data"',
        "<script>alert(1)</script>",
        "a.b.c",
        "..",
        ["staging.sales_data", "x"],
        {"a": 1},
        12,
    ],
)
async def test_what_is_no_table_of_the_catalogue_is_told_so(view, read, asked) -> None:
    lay_out(table=asked, range=asked, other="x")

    assert f"There is no table {asked}." in read(await draw_chosen(view, asked))
    for draw in (draw_preview, draw_columns):
        assert "There is no table" in read(await draw(view, asked))
    for draw in (draw_days, draw_sources):
        assert "No load fills this table" in read(await draw(view, asked, asked))


def test_the_layout_shows_a_table_only_where_one_is_asked_for(read) -> None:
    assert "Rows by source" not in read(lay_out())
    assert "Rows by source" in read(lay_out(table="customers\0"))


async def test_sources_stand_by_day_the_large_ones_apart(view, read, loader, execution_id) -> None:
    sources = ["<img src=x onerror=alert(1)>.csv", *(f"file_{n}.csv" for n in range(9))]
    for number, source in enumerate(sources):
        await loader.execute(
            """
            WITH file AS (
                INSERT INTO metadata.source_files
                    (execution_id, load_id, dataset, path, status, contracted)
                VALUES ($1, gen_random_uuid(), 'sales_data', $2, 'LOADED', true) RETURNING id
            )
            INSERT INTO metadata.dataset_counts (execution_id, batch_id, dataset, source, read,
                inserted, updated, unchanged, superseded, duplicates, quarantined, recorded_at)
            SELECT $1, id, 'sales_data', $2, $3::bigint, $3 - 3, 0, 0, 0, 1, 2,
                clock_timestamp() - make_interval(days => $4) FROM file
            """,
            execution_id,
            source,
            1000 - number,
            number % 2,
        )

    figure = await draw_days(view, "sales_data", "7d")

    names = [each["name"] for each in figure["data"]]
    assert names[0] == "&lt;img src=x onerror=alert(1)&gt;.csv"
    assert names[-1] == "all others"
    assert len(names) == 7
    assert figure["data"][0]["y"] == [997]
    today, yesterday = figure["data"][-1]["y"][::-1]
    assert today == 991 + 989
    assert yesterday == 990 + 988
    assert len({each["marker"]["pattern"]["shape"] for each in figure["data"]}) == 7
    assert "<img" not in json.dumps(figure)
    text = read(await draw_sources(view, "sales_data", "7d"))
    assert f"{sources[0]} 1,000 997 0 1 2 " in text
    assert "more" not in text


async def test_without_loads_the_page_says_what_to_do(view, read) -> None:
    assert "No row was loaded" in read(await draw_days(view, "sales_data", "30d"))
    assert "prefect deployment run" in read(await draw_sources(view, "sales_data", "30d"))
    assert "This table is empty." in read(await draw_preview(view, "sales_data"))
    calendar = sheet(await draw_preview(view, "warehouse.dim_date"))
    assert "2000-01-01" in calendar
    assert MASK not in calendar


async def test_the_page_says_that_the_database_is_gone(view, gone) -> None:
    away = replace(view, reader=gone)
    for draw in (draw_tables, lambda each: draw_preview(each, "sales_data")):
        with pytest.raises(AwayError):
            await draw(away)
