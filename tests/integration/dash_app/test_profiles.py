"""What the last loads of a dataset looked like; nothing personal is in it."""

import datetime as dt
import json
from dataclasses import replace
from typing import Any

import pytest

from dash_app.pages.quality_profile import draw_missing_days, draw_profile, draw_volume
from dash_app.queries import profiles as ask
from dash_app.reader import AwayError
from dash_app.view import View

NOW = dt.datetime(2026, 3, 10, 12, 0, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def noon(view) -> View:
    """The viewer, at a known moment."""
    return replace(view, now=NOW)


def cells(rows: int = 100, missing: int = 0, **given: Any) -> dict[str, Any]:
    nothing = {"distinct": None, "minimum": None, "maximum": None}
    return {"rows": rows, "missing": missing, "mistyped": 0, **nothing, **given}


async def profile(
    loader,
    dataset: str = "customers",
    *,
    at: dt.datetime = NOW,
    feed: str = "customers.csv",
    read: int = 100,
    **columns: Any,
) -> None:
    await loader.execute(
        """
        INSERT INTO metadata.load_profiles
            (execution_id, dataset, feed, read, duplicates, quarantined, columns, profiled_at)
        VALUES (7, $1, $2, $3, 2, 3, $4, $5)
        """,
        dataset,
        feed,
        read,
        json.dumps(columns),
        at,
    )


async def check(loader, *, at: dt.datetime = NOW, rows: int = 100, **missing: int) -> None:
    await loader.executemany(
        """
        INSERT INTO metadata.quality_results
            (execution_id, batch_id, dataset, column_name, rule, checked, failed, recorded_at)
        VALUES (7, 1, 'customers', $1, 'completeness', $2, $3, $4)
        """,
        [(column, rows, failed, at) for column, failed in missing.items()],
    )


async def find_odd(loader, rule: str, observed: float, column: str | None = None) -> None:
    await loader.execute(
        """
        INSERT INTO metadata.anomalies
            (dataset, feed, column_name, rule, severity, observed, summary, detected_at)
        VALUES ('customers', 'customers.csv', $1, $2, 'error', $3, $4, $5)
        """,
        column,
        rule,
        observed,
        HOSTILE,
        NOW - DAY,
    )


async def test_columns_stand_in_the_contracts_order_beside_the_load_before(
    noon, loader, read
) -> None:
    await profile(loader, at=NOW - DAY, city=cells(missing=10))
    await profile(loader, at=NOW - HOUR, feed="another", city=cells(missing=90))
    await profile(
        loader,
        city=cells(missing=24, mistyped=2, distinct=7, minimum="Agra", maximum="Pune"),
        customer_id=cells(minimum="1", maximum="99"),
    )
    said = read(await draw_profile(noon, "customers"))
    assert "customers : 100 rows of customers.csv" in said
    assert "city 100 24.0 % 10.0 % 2 7 Agra Pune" in said
    assert said.index("customer_id 100") < said.index("city 100")
    # The load before of the same feed, and the loads of all.
    assert said.count("another") == 1
    assert said.count("100 2 3 /runs/7 7") == 3


async def test_no_value_that_may_be_personal_is_asked_for(noon, loader, read) -> None:
    values = cells(minimum="Ada", maximum="Zoe")
    await profile(loader, name=values, email=values, country=values, not_in_the_contract=values)
    said = read(await draw_profile(noon, "customers"))
    assert "country 100 0.0 % - 0 - Ada Zoe" in said
    assert said.count("Ada") == 1
    assert said.count("•••") == 6
    await profile(loader, "of_nobody", name=values)
    said = read(await draw_profile(noon, "of_nobody"))
    assert "name 100" in said
    assert "Ada" not in said
    newest = await ask.find_loads(noon.reader, "of_nobody")
    [row] = await ask.describe_columns(noon.reader, newest[0]["id"], ())
    assert (row["minimum"], row["maximum"]) == (None, None)


async def test_without_a_choice_the_dataset_that_came_last_is_shown(noon, loader, read) -> None:
    await profile(loader, "products")
    await profile(loader, "sales_data", at=NOW - DAY)
    assert "sales_data (loaded last" in read(await draw_profile(noon, None))
    assert "products : 100 rows" in read(await draw_profile(noon, "products"))


async def test_rows_a_load_are_the_days_average_of_each_feed(noon, loader) -> None:
    await profile(loader, at=NOW - DAY, read=100)
    await profile(loader, at=NOW - DAY - HOUR, read=300)
    await profile(loader, read=50)
    await profile(loader, read=7, feed=HOSTILE)
    await profile(loader, at=NOW - 100 * DAY, read=9999)
    await find_odd(loader, "volume", 12)
    await find_odd(loader, "freshness", 90_000)
    figure = await draw_volume(noon, "customers")
    feed, other, odd, otherwise = figure["data"]
    assert dict(zip(feed["x"], feed["y"], strict=True)) == {"2026-03-09": 200, "2026-03-10": 50}
    assert other["name"] == "&lt;img src=x onerror=alert(1)&gt;"
    assert (odd["x"], odd["y"], odd["marker"]["symbol"]) == (["2026-03-09"], [12], "x-thin")
    assert (otherwise["y"], otherwise["marker"]["symbol"]) == ([0], "triangle-up-open")
    assert "25 h 00 min" not in otherwise["text"][0]
    assert otherwise["text"] == ["1 d 1 h: &lt;img src=x onerror=alert(1)&gt;"]


async def test_missing_cells_are_of_the_worst_columns_and_of_the_odd_ones(noon, loader) -> None:
    columns = {f"column_{place}": place for place in range(9)}
    await check(loader, at=NOW - DAY, **columns)
    await check(loader, **columns | {"column_8": 92})
    await check(loader, at=NOW - DAY, rows=300, column_8=0)
    await check(loader, rows=0, column_7=0)
    await check(loader, at=NOW - 90 * DAY, column_2=100)
    await find_odd(loader, "null_rate", 0.4, "column_0")
    await find_odd(loader, "mistyped_rate", 0.2, "column_1")
    figure = await draw_missing_days(noon, "customers")
    names = [each["name"] for each in figure["data"]]
    assert names == [
        *("column_0", "column_8", "column_7", "column_6", "column_5"),
        *("oddly missing", "another type"),
    ]
    assert figure["data"][1]["y"] == [2.0, 92.0]
    assert figure["data"][5]["y"] == [40.0]
    assert figure["data"][6]["y"] == [20.0]


async def test_without_profiles_each_panel_says_what_to_do(noon, loader, read) -> None:
    assert "No load was profiled yet." in read(await draw_profile(noon, None))
    await profile(loader, "products")
    assert "No load of it was profiled." in read(await draw_profile(noon, "customers"))
    for draw in (draw_volume, draw_missing_days):
        figure = await draw(noon, "customers")
        assert "No load of it was" in figure["layout"]["annotations"][0]["text"]


async def test_hostile_names_are_text(noon, loader, read) -> None:
    await profile(loader, HOSTILE, feed=HOSTILE, **{HOSTILE: cells(minimum=HOSTILE)})
    assert HOSTILE in read(await draw_profile(noon, None))
    await check(loader, **{HOSTILE: 1})
    figure = await draw_missing_days(noon, "customers")
    assert figure["data"][0]["name"] == "&lt;img src=x onerror=alert(1)&gt;"


async def test_the_panels_say_that_the_database_is_gone(noon, gone) -> None:
    for draw in (draw_profile, draw_volume, draw_missing_days):
        with pytest.raises(AwayError):
            await draw(replace(noon, reader=gone), "customers")
