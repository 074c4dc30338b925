"""The tasks over frames, as somebody's own flow calls them."""

import asyncio
import datetime as dt
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest
from prefect.states import Failed

from infra.postgres.connection import Pool
from schemas.datasets import Customers, Products
from schemas.errors import RefusedError, TransientError
from tasks.steps import can_pass, load_frame, validate_frame
from tests.cells import in_clear

# The plain functions behind the tasks: what Prefect adds to them is shown by the flow's tests.
validate = validate_frame.fn
load = load_frame.fn
DAY = dt.date(2024, 1, 2)
FRAMES = {
    "pandas_of_text": pd.DataFrame(
        {
            "customer_id": ["1", "x"],
            "name": ["Ann", "Bo"],
            "signup_date": ["02/01/2024", "2024-01-02"],
        }
    ),
    "pandas_typed": pd.DataFrame(
        {
            "customer_id": [1.0, np.nan],
            "name": pd.Categorical(["Ann", "Bo"]),
            "signup_date": pd.to_datetime(["2024-01-02", "2024-01-02"]),
        },
        index=[10, 10],
    ),
    "pandas_with_its_key_as_index": pd.DataFrame(
        {"name": ["Ann", None], "signup_date": [DAY, DAY]},
        index=pd.Index([1, 2], name="customer_id"),
    ),
    "pandas_of_arrow": pd.DataFrame(
        {"customer_id": [1, None], "name": ["Ann", "Bo"], "signup_date": [DAY, DAY]}
    ).convert_dtypes(dtype_backend="pyarrow"),
    "polars_of_text": pl.DataFrame(
        {"Customer ID": [" 1 ", "2"], "name": ["Ann", "Bo"], "signup_date": ["2024-01-02", "never"]}
    ),
    "polars_typed": pl.DataFrame(
        {"customer_id": [1, 2], "name": ["Ann", "a\0b"], "signup_date": [DAY, DAY]}
    ),
    "polars_nested_and_timed": pl.DataFrame(
        {
            "customer_id": [1, None],
            "name": ["Ann", "Bo"],
            "signup_date": [dt.datetime(2024, 1, 2, tzinfo=dt.UTC)] * 2,
            "tags": [["a"], None],
            "took": [dt.timedelta(seconds=1), None],
            "kind": pl.Series(["a", None], dtype=pl.Categorical),
        }
    ),
}


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
async def test_any_frame_is_judged_and_loaded_by_the_contract(
    pool: Pool, execution_id: int, frame: pd.DataFrame | pl.DataFrame
) -> None:
    accepted, [reject] = validate(frame, Customers)
    assert accepted["customer_id"].to_list() == [1]
    assert accepted["signup_date"].to_list() == [DAY]
    assert reject.line == 2
    report = await load(pool, frame, Customers, execution_id=execution_id, name="my frame")
    assert (report.ledger.read, report.ledger.inserted, report.ledger.quarantined) == (2, 1, 1)
    async with pool.acquire() as connection:
        rows = await connection.fetch(
            "SELECT customer_id, name, signup_date FROM warehouse.dim_customers"
        )
        kept = await connection.fetchrow("SELECT line, source, rule FROM metadata.quarantine")
    [row] = in_clear(rows)
    assert tuple(row) == (1, "Ann", DAY)
    assert tuple(kept) == (2, "my frame", reject.rule)


def test_a_frame_without_rows_has_an_answer_of_the_contracts_types() -> None:
    empty = pd.DataFrame(columns=["product_id", "name", "category", "price"])
    for frame in (empty, pl.from_pandas(empty.astype(str))):
        accepted, rejects = validate(frame, Products)
        assert (accepted.height, rejects) == (0, [])
        for column in Products.spec.columns:
            assert accepted.schema[column.name] == column.dtype


def test_digits_survive_where_a_column_also_holds_gaps_and_nests() -> None:
    frame = pl.DataFrame(
        {
            "product_id": [2**62 + 1, None],
            "name": ["a", "b"],
            "category": ["toys", "toys"],
            "price": [Decimal("0.10"), None],
            "nested": [{"n": 2**62 + 1}, None],
        }
    )
    accepted, _ = validate(frame, Products)
    assert accepted["product_id"].to_list() == [2**62 + 1]
    assert accepted["price"].to_list() == [Decimal("0.10")]
    assert str(2**62 + 1) in accepted["_extra"][0]


@pytest.mark.parametrize("kind", [pd.DataFrame, pl.DataFrame])
async def test_a_frame_that_lacks_a_column_is_refused_and_named(
    pool: Pool, execution_id: int, kind: type
) -> None:
    frame = kind({"customer_id": [1], "nom": ["Ann"]})
    with pytest.raises(RefusedError, match="The frame lacks 'name', 'signup_date'"):
        validate(frame, Customers)
    with pytest.raises(RefusedError, match="my frame lacks 'name', 'signup_date'"):
        await load(pool, frame, Customers, execution_id=execution_id, name="my frame")


async def test_frames_of_one_dataset_loaded_at_once_wait_for_each_other(
    pool: Pool, execution_id: int
) -> None:
    frames = [
        pd.DataFrame({"customer_id": [1, n], "name": "Ann", "signup_date": DAY})
        for n in range(2, 8)
    ]
    reports = await asyncio.gather(
        *(load(pool, each, Customers, execution_id=execution_id) for each in frames)
    )
    assert sum(report.ledger.inserted for report in reports) == 7
    assert sum(report.ledger.read for report in reports) == 12


def test_only_an_error_that_may_pass_is_repeated() -> None:
    for error, expected in (
        (TransientError("gone"), True),
        (RefusedError("wrong"), False),
        (ValueError("a fault"), False),
    ):
        assert can_pass(load_frame, None, Failed(data=error)) is expected
