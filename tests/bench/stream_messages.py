"""The messages of the stream benchmarks: sales of about 200 bytes, a chunk at a time; no I/O."""

import datetime as dt
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import polars as pl

from infra.sample.bulk import CUSTOMERS, PRODUCTS, SEED
from infra.sample.bulk_plan import scatter
from infra.sample.bulk_rows import make_lines
from infra.sample.shop import SALES_HEADER
from tasks.refusals import Message

Numbers = npt.NDArray[np.int64]
Chooser = Callable[[int, int], tuple[Numbers, Numbers]]
"""Of the messages from one number to before another: keys and revisions."""

SOURCE = "sales_data"
PARTITIONS = 3
CHUNK = 50_000
FLAWED_EVERY = 1_000
_QUOTED = frozenset({"order_date", "channel"})
_REVISIONS = 19
"""Another revision of a key has another quantity."""
_BEGIN = dt.datetime(2026, 1, 5)  # noqa: DTZ001 - written with a Z; polars is faster without zones


def choose_new(start: int, stop: int) -> tuple[Numbers, Numbers]:
    """Return every key once, ascending, as it is said first."""
    numbers = np.arange(start, stop, dtype=np.int64)
    return numbers + 1, np.zeros(stop - start, dtype=np.int64)


def choose_changed(total: int) -> Chooser:
    """Return a chooser of every key once more, changed, in random order over all of them."""
    keys = np.random.default_rng(SEED).permutation(total).astype(np.int64) + 1

    def choose(start: int, stop: int) -> tuple[Numbers, Numbers]:
        return keys[start:stop], np.ones(stop - start, dtype=np.int64)

    return choose


def choose_mixed(start: int, stop: int) -> tuple[Numbers, Numbers]:
    """Return a new key with each even number, and with each odd one a key of before, changed."""
    numbers = np.arange(start, stop, dtype=np.int64)
    before = (scatter(numbers, SEED, 7) % (numbers // 2 + 1).astype(np.uint64)).astype(np.int64)
    is_new = numbers % 2 == 0
    return (
        np.where(is_new, numbers // 2, before) + 1,
        np.where(is_new, 0, numbers % _REVISIONS + 1),
    )


def make_rows(keys: Numbers, revisions: Numbers) -> pl.DataFrame:
    """Return the sales as text cells, under the contract's names."""
    lines = make_lines(keys, revisions, SEED, CUSTOMERS, PRODUCTS)
    cells = lines.str.split_exact(",", len(SALES_HEADER) - 1).struct.rename_fields(
        list(SALES_HEADER)
    )
    return cells.struct.unnest()


def make_envelopes(rows: pl.DataFrame, start: int, *, flawed: bool = False) -> pl.DataFrame:
    """Return columns `key` and `value`, as the producer writes them; the start-th happens then.

    flawed: one in a thousand breaks its contract.
    """
    numbers = pl.int_range(start, start + rows.height)
    times = (pl.lit(_BEGIN) + pl.duration(microseconds=numbers)).dt.to_string(
        "%Y-%m-%dT%H:%M:%S%.6fZ"
    )
    if flawed:
        spoilt = pl.when(numbers % FLAWED_EVERY == 0).then(pl.lit("0"))
        rows = rows.with_columns(spoilt.otherwise("quantity").alias("quantity"))
    members = [
        pl.concat_str(
            pl.lit(f'"{name}":' + ('"' if name in _QUOTED else "")),
            pl.col(name),
            pl.lit('"' if name in _QUOTED else ""),
        )
        for name in rows.columns
    ]
    return rows.select(
        pl.concat_str(pl.lit(f"{SOURCE}:"), "order_id").alias("key"),
        pl.concat_str(
            pl.lit(f'{{"source":"{SOURCE}","timestamp":"'),
            times,
            pl.lit('","payload":{'),
            pl.concat_str(members, separator=","),
            pl.lit("}}"),
        ).alias("value"),
    )


def list_messages(
    choose: Chooser, start: int, stop: int, *, later: int = 0, flawed: bool = False
) -> Iterator[Message]:
    """Yield the messages by number, with `later` added to their time in microseconds."""
    for first in range(start, stop, CHUNK):
        rows = make_rows(*choose(first, min(first + CHUNK, stop)))
        made = make_envelopes(rows, first + later, flawed=flawed)
        for key, value in made.iter_rows():
            yield key.encode(), value.encode(), None
