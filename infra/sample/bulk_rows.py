"""Clean sales records as CSV lines, a whole chunk at a time."""

import datetime as dt

import numpy as np
import numpy.typing as npt
import polars as pl

from infra.sample.bulk_plan import Numbers, scatter
from infra.sample.shop import FIRST_ORDER, ORDER_DAYS, SALES_HEADER
from infra.sample.words import CHANNELS, DISCOUNTS

QUANTITIES = 20
_DATES = pl.Series(
    [dt.date.fromordinal(FIRST_ORDER + day).isoformat() for day in range(ORDER_DAYS)]
)
_QUANTITIES = pl.Series([str(number) for number in range(1, QUANTITIES + 1)])
_PRICES = pl.Series([f"{cents // 100}.{cents % 100:02}" for cents in range(99, 20_099)])
_DISCOUNTS = pl.Series(DISCOUNTS)
_CHANNELS = pl.Series(CHANNELS)


def make_lines(
    keys: Numbers, revisions: Numbers, seed: int, customers: int, products: int
) -> pl.Series:
    """Return one CSV line for each key; another revision of a key has another quantity."""

    def below(limit: int, lane: int) -> npt.NDArray[np.int64]:
        return (scatter(keys, seed, lane) % np.uint64(limit)).astype(np.int64)

    columns = {
        "order_id": pl.Series(keys),
        "customer_id": pl.Series(below(customers, 1) + 1),
        "product_id": pl.Series(below(products, 2) + 1),
        "order_date": _DATES.gather(below(len(_DATES), 3)),
        "quantity": _QUANTITIES.gather((below(QUANTITIES, 4) + revisions) % QUANTITIES),
        "unit_price": _PRICES.gather(below(len(_PRICES), 5)),
        "discount": _DISCOUNTS.gather(below(len(_DISCOUNTS), 6)),
        "channel": _CHANNELS.gather(below(len(_CHANNELS), 7)),
    }
    frame = pl.DataFrame([columns[name].alias(name) for name in SALES_HEADER])
    return frame.select(line=pl.concat_str(pl.all(), separator=",")).to_series()


def read_cells(line: str) -> list[str]:
    """Return the cells of a line that `make_lines` made: none of them is quoted."""
    return line.split(",")
