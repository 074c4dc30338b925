"""The quality page: it tells what the loads wrote, and nothing personal is in it."""

import datetime as dt
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dash_app.pages import quality
from dash_app.pages.quality import draw_drift, draw_duplicates, draw_summary, lay_out
from dash_app.pages.quality_rules import draw_failures, draw_missing, draw_rates, draw_rules
from dash_app.pages.quarantine import draw_export, draw_row, fetch_rows, find_options
from dash_app.reader import AwayError

SALES = """order_id,customer_id,product_id,order_date,quantity,unit_price,discount,channel,till
100,1,5,2024-02-01,2,12.00,0.1,web,7
101,1,5,2024-02-01,0,12.00,,,7
102,1,5,2024-02-01,two,12.00,2.5,web,7
102,1,5,2024-02-01,1,12.00,0.5,web,7
102,1,5,2024-02-01,1,12.00,0.5,web,7
"""
# The second row lacks its number: the name stands where the number should.
CUSTOMERS = """customer_id,name,email,city,country,signup_date,credit_limit
1,Ada Lovelace,ada@example.org,London,UK,2024-01-02,10.50
Grace Hopper,grace@example.org,New York,US,2024-01-03,3.00,
"""
PANELS = (draw_summary, draw_rules, draw_missing, draw_drift)
CHARTS = (draw_rates, draw_failures, draw_duplicates)


@pytest.fixture
async def loaded(load, tmp_path: Path) -> None:
    for name, text in (("sales_data", SALES), ("customers", CUSTOMERS)):
        path = tmp_path / f"{name}.csv"
        path.write_text(text)
        await load(path)


@pytest.fixture
async def many(loader) -> None:
    """Rows in quarantine from 1 on: odd ones of sales, of other runs by tens."""
    await loader.execute(
        """
        INSERT INTO metadata.quarantine
            (execution_id, batch_id, dataset, source, line, rule, column_name, reason, raw,
             quarantined_at)
        SELECT n / 10, 1, CASE WHEN n % 2 = 1 THEN 'sales_data' ELSE 'customers' END,
            '/in/<b>file</b>.csv', n, CASE WHEN n % 3 = 0 THEN 'missing' ELSE 'type' END,
            'quantity', format('quantity ''q%s'' is no %% number', n), format('%s;Ada', n),
            clock_timestamp() - INTERVAL '1 minute'
        FROM generate_series(1, 12000) AS n
        """
    )


async def page_of(view: Any, *filters: Any, start: int = 0, end: int = 50) -> tuple[list[int], Any]:
    rows, total = await fetch_rows(view, filters, None, start, end)
    return [row["id"] for row in rows], total


async def test_the_pass_rate_is_of_all_checked_rows(view, loaded) -> None:
    figure = await draw_rates(view, "sales_data", "7d")

    rates = {each["name"]: each["y"] for each in figure["data"]}
    assert rates == {
        "quantity: type": [80.0],
        "quantity: greater_than_or_equal_to": [80.0],
        "discount: less_than_or_equal_to": [80.0],
    }
    assert figure["data"][0]["x"] == [view.now.date().isoformat()]
    assert figure["data"][0]["text"] == ["1 of 5 broke it"]


async def test_a_load_without_a_failure_counts_for_the_rate(view, loader) -> None:
    today = view.now.date()
    for failed, days in ((4, 1), (0, 0)):
        await loader.execute(
            """
            INSERT INTO metadata.quality_results
                (execution_id, batch_id, dataset, column_name, rule, checked, failed, recorded_at)
            SELECT 1, 1, 'sales_data', 'quantity', rule, checked, failed,
                clock_timestamp() - make_interval(days => $2)
            FROM (VALUES ('type', 10, $1::bigint), ('completeness', 10, 0),
                ('completeness', 30, 0)) AS given (rule, checked, failed)
            WHERE rule <> 'type' OR failed > 0
            """,
            failed,
            days,
        )

    figure = await draw_rates(view, None, "7d")

    assert [each["name"] for each in figure["data"]] == ["type"]
    assert figure["data"][0]["y"] == [90.0, 100.0]
    assert figure["data"][0]["x"][-1] == today.isoformat()
    failures = await draw_failures(view, None, "7d")
    assert failures["data"][0]["y"] == [4]


async def test_results_before_the_chosen_time_are_left_out(view, loader, read) -> None:
    await loader.execute(
        """
        INSERT INTO metadata.quality_results
            (execution_id, batch_id, dataset, column_name, rule, checked, failed, recorded_at)
        VALUES (1, 1, 'sales_data', 'quantity', 'completeness', 10, 1,
            clock_timestamp() - INTERVAL '40 days')
        """
    )

    assert "No row was checked" in read(await draw_missing(view, None, "30d"))
    assert "10.0 %" in read(await draw_missing(view, None, "90d"))


async def test_broken_rules_are_listed_with_their_share(view, read, loaded) -> None:
    text = read(await draw_rules(view, "sales_data", "7d"))

    assert "/quality?dataset=sales_data&rule=type type 1 20.0 %" in text
    every = read(await draw_rules(view, None, "7d"))
    assert "customers customer_id /quality?dataset=customers&rule=type type 1 50.0 %" in every


async def test_the_ledger_is_summed(view, read, loaded) -> None:
    text = read(await draw_summary(view, "sales_data", "7d"))

    # Read 5: two in quarantine, one a duplicate.
    assert "60.0 % of 5 read" in text
    assert "Quarantined 2" in text
    assert "Duplicates 1 20.0 %" in text
    figure = await draw_duplicates(view, "sales_data", "7d")
    assert [(each["name"], each["y"]) for each in figure["data"]] == [
        ("duplicates", [1]),
        ("superseded", [0]),
    ]


async def test_missing_filled_and_mistyped_cells_stand_by_column(view, read, loaded) -> None:
    text = read(await draw_missing(view, "sales_data", "7d"))

    assert "sales_data.channel 20.0 % 5 0 0" in text
    assert "sales_data.discount 20.0 % 5 1 0" in text
    assert "sales_data.quantity 0.0 % 5 0 1" in text


async def test_columns_that_the_contract_does_not_know_are_drift(
    view, read, load, tmp_path, loaded
) -> None:
    path = tmp_path / "products.csv"
    path.write_text("product_id,title\n1,Globe\n")
    with pytest.raises(Exception, match="lacks"):
        await load(path)

    text = read(await draw_drift(view, None, "7d"))

    assert "sales_data columns that the contract does not know are kept in _extra: 'till'" in text
    assert "refused: " in text
    assert "lacks 'name', 'category', 'price', which the contract Products requires" in text
    assert "is not recorded" in text
    assert "refused" not in read(await draw_drift(view, "sales_data", "7d"))


async def test_the_example_of_another_type_is_hidden_where_it_may_be_personal() -> None:
    note = (
        "a.csv does not fit the contract Customers: column 'city' is text there, but 21 of 40 "
        "cells in the file are not, such as 'Ada Lovelace': mend the file or change the contract."
    )
    assert "Ada" not in quality.show_note("customers", note)
    assert quality.show_note("sales_data", note) == note
    assert quality.show_note("customers", "columns …: 'shoe'") == "columns …: 'shoe'"


async def test_without_results_each_panel_says_what_to_do(view, read) -> None:
    for draw in (draw_rules, draw_missing):
        assert "prefect deployment run" in read(await draw(view, None, "30d"))
    for draw in CHARTS:
        assert "in this time" in read(await draw(view, None, "30d"))
    assert "There is nothing to do" in read(await draw_drift(view, None, "30d"))
    rows, total = await fetch_rows(view, (None, None, "", ""), None, 0, 50)
    assert (list(rows), total) == ([], 0)


async def test_rows_come_page_by_page_the_newest_first(view, many) -> None:
    assert await page_of(view, None, None, "", "", end=3) == ([12000, 11999, 11998], 10_000)
    assert (await page_of(view, None, None, "", "", start=9998, end=10_010))[0] == [2002, 2001]


@pytest.mark.parametrize(
    ("filters", "first", "total"),
    [
        (("sales_data", None, "", ""), [11999, 11997], 6000),
        (("sales_data", "missing", "", ""), [11997, 11991], 2000),
        ((None, "missing", "", ""), [12000, 11997], 4000),
        ((None, None, "77", ""), [779, 778], 10),
        (("customers", "type", "77", ""), [778, 776], 4),
        ((None, None, None, "IS NO % N"), [12000, 11999], 10_000),
        ((None, None, None, "no _ number"), [], 0),
        (("sales_data", None, None, "'Q1199"), [11999, 11997], 6),
        (("customers", None, None, "q1199"), [], 0),  # hidden, so not found either
        (("no such' --", None, None, ""), [], 0),
        ((None, "\0", "\0", "\0"), [12000, 11999], 10_000),
        ((None, None, "1 OR true", ""), [], 0),
        ((None, None, "9" * 400, ""), [], 0),
        (({"a": 1}, [1], True, 7.5), [], 0),
    ],
)
async def test_filters_choose_rows(view, many, filters, first, total) -> None:
    assert await page_of(view, *filters, end=2) == (first, total)


async def test_rows_of_runs_at_the_same_time_are_told_apart(view, loader) -> None:
    await loader.execute(
        """
        INSERT INTO metadata.quarantine
            (execution_id, batch_id, dataset, source, line, rule, reason, raw, quarantined_at)
        SELECT 7 + n % 2, 1, 'products', 'x', n, 'type', 'r', 'r',
            clock_timestamp() - INTERVAL '1 minute'
        FROM generate_series(1, 6) AS n
        """
    )

    for filters in (("products", None), (None, "type"), ("products", "type"), (None, None)):
        assert await page_of(view, *filters, "7", "") == ([6, 4, 2], 3)


async def test_rows_that_came_later_do_not_move_the_others(view, many, loader) -> None:
    as_of = await loader.fetchval("SELECT clock_timestamp()")
    await loader.execute(
        """
        INSERT INTO metadata.quarantine
            (execution_id, batch_id, dataset, source, line, rule, reason, raw)
        VALUES (1, 1, 'sales_data', 'x', 1, 'type', 'new', 'new')
        """
    )

    assert (await page_of(replace(view, now=as_of), None, None, "", "", end=1))[0] == [12000]
    later = replace(view, now=view.now + dt.timedelta(hours=1))
    assert (await page_of(later, None, None, "", "", end=1))[0] == [12001]


async def test_operators_read_rows_where_nothing_is_personal(view, operator, many) -> None:
    async def raws(who: Any) -> list[Any]:
        rows, _ = await fetch_rows(who, (None, None, "", ""), None, 0, 2)
        return [row["raw"]["text"] for row in rows]

    assert await raws(operator) == ["•••••;•••", "11999;Ada"]
    assert await raws(view) == ["•••••;•••", "•••••;•••"]


async def test_a_row_of_the_table_says_where_it_comes_from(operator, many) -> None:
    rows, _ = await fetch_rows(operator, ("sales_data", None, "7", ""), None, 0, 1)

    [row] = rows
    assert row["origin"] == {
        "text": "b>.csv:79",
        "title": "/in/<b>file</b>.csv, line 79",
    }
    assert row["run"]["href"] == "/runs/7"
    assert row["row"]["href"] == "/quality?dataset=sales_data&execution=7&row=79"
    assert row["reason"]["text"] == "quantity 'q79' is no % number"
    assert row["at"]["title"].endswith(" UTC")


async def test_a_personal_cell_in_its_neighbours_place_is_seen_nowhere(
    view, operator, read, loaded
) -> None:
    operator = replace(operator, now=dt.datetime.now(dt.UTC))
    view = replace(view, now=operator.now)
    rows, total = await fetch_rows(operator, ("customers", None, "", ""), None, 0, 50)
    assert total == 1
    drawn = [json.dumps(rows, ensure_ascii=False), read(await draw_row(operator, rows[0]["id"]))]
    drawn += [read(await draw(operator, "customers", "7d")) for draw in (*PANELS, *CHARTS)]
    for each in drawn:
        for secret in ("Grace", "Hopper", "grace@", "Ada", "New York"):
            assert secret not in each
    assert "customer_id '••••• ••••••' •• " in drawn[0]
    assert await page_of(view, "customers", None, "", "Grace") == ([], 0)


async def test_one_row_is_shown_whole(view, operator, read, many) -> None:
    text = read(await draw_row(operator, "11999"))

    assert "11999;Ada" in text
    assert "/in/<b>file</b>.csv, line 11999" in text
    assert "type (quantity)" in text
    assert "/runs/1199" in text
    masked = read(await draw_row(view, "11999"))
    assert "Ada" not in masked
    assert "operators see the row" in masked
    assert "not in quarantine" in read(await draw_row(view, "999999"))


async def test_an_encrypted_row_is_called_so_with_the_way_to_read_it(
    view, operator, read, loaded
) -> None:
    for who in (operator, view):
        seen = replace(who, now=dt.datetime.now(dt.UTC))
        [row], _ = await fetch_rows(seen, ("customers", None, "", ""), None, 0, 50)
        assert row["raw"]["text"] == "encrypted"
        text = read(await draw_row(seen, row["id"]))
        assert "encrypted" in text
        assert f"python -m tasks.open_sealed quarantine {row['id']}" in text


async def test_only_operators_are_shown_the_way_to_the_file(view, operator, read) -> None:
    filters = ("sales_data", "type", "7", "a&b=c d")

    assert await draw_export(view, *filters) is None
    assert "Export as CSV" in read(await draw_export(operator, *filters))
    assert (
        "/export/quarantine.csv?dataset=sales_data&rule=type&execution=7&text=a%26b%3Dc+d"
        in read(await draw_export(operator, *filters))
    )


async def test_what_can_be_chosen_is_what_there_is(view, many) -> None:
    datasets, rules = await find_options(view, None, "of a link")

    assert datasets == ["api_users", "customers", "products", "sales_data"]
    assert rules == ["missing", "of a link", "type"]
    assert await find_options(view, "unheard_of", None) == (sorted([*datasets, "unheard_of"]), [])


def test_the_layout_takes_whatever_an_address_says(read) -> None:
    lay_out()
    whole = lay_out(dataset=["a", "b"], range="<x>", rule="\0", execution="x", text="<b>", row="1")
    assert "Row 1 of the quarantine" in read(whole)
    close = lay_out(dataset="sales_data", rule="a&b", row="1")
    assert "/quality?dataset=sales_data&rule=a%26b Close" in read(close)
    for row in ("x", "²", "9" * 30, ["1"], "-1"):
        assert "of the quarantine" not in read(lay_out(row=row))


async def test_the_page_says_that_the_database_is_gone(view, gone) -> None:
    away = replace(view, reader=gone)
    for draw in (*PANELS, *CHARTS):
        with pytest.raises(AwayError):
            await draw(away, None, "30d")
    with pytest.raises(AwayError):
        await fetch_rows(away, (None, None, "", ""), None, 0, 50)


async def test_names_in_charts_are_text(view, loader) -> None:
    await loader.execute(
        """
        INSERT INTO metadata.quality_results
            (execution_id, batch_id, dataset, column_name, rule, checked, failed)
        VALUES (1, 1, 'x', '<i>c', 'completeness', 9, 0), (1, 1, 'x', '<i>c', '<b>r', 9, 1)
        """
    )

    for draw in (draw_rates, draw_failures):
        figure = json.dumps(await draw(view, "x", "7d"))
        assert "&lt;i&gt;c: &lt;b&gt;r" in figure
        assert "<b>" not in figure
