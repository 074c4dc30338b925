"""One tool's load of a CSV file, as its documentation proposes it, run by the tools' own Python.

It takes a JSON object on standard input (tool, mended, path, url, folder), and answers with one.
`plain` is what one writes first; `mended` follows the advice of the error that stopped it. The
clock starts when the tool is imported.
"""
# ruff: noqa: PLC0415 - the imports of one tool must not be charged to another

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

TABLE = "peer_sales"
Task = Callable[[], None]


def prepare_polars(path: Path, url: str, *, mended: bool) -> Task:
    """Return polars' read_csv and write_database over ADBC, its faster engine."""
    import adbc_driver_postgresql.dbapi  # noqa: F401 - polars would import it on the clock
    import polars as pl

    options: dict[str, Any] = (
        {"infer_schema_length": None, "truncate_ragged_lines": True} if mended else {}
    )

    def run() -> None:
        pl.read_csv(path, **options).write_database(TABLE, url, engine="adbc")

    return run


def prepare_pandas(path: Path, url: str, *, mended: bool) -> Task:
    """Return pandas' read_csv and to_sql through SQLAlchemy and psycopg2."""
    import pandas as pd
    import sqlalchemy

    engine = sqlalchemy.create_engine(url.replace("postgresql:", "postgresql+psycopg2:", 1))
    options: dict[str, Any] = {"on_bad_lines": "skip", "low_memory": False} if mended else {}

    def run() -> None:
        # The default method: "multi" takes several times as long with these drivers.
        pd.read_csv(path, **options).to_sql(TABLE, engine, index=False, chunksize=50_000)

    return run


def prepare_pandas_adbc(path: Path, url: str, *, mended: bool) -> Task:
    """Return pandas' read_csv and to_sql over an ADBC connection."""
    import pandas as pd
    from adbc_driver_postgresql import dbapi

    options: dict[str, Any] = {"on_bad_lines": "skip", "low_memory": False} if mended else {}

    def run() -> None:
        with dbapi.connect(url) as connection:
            pd.read_csv(path, **options).to_sql(TABLE, connection, index=False)
            connection.commit()

    return run


def prepare_dlt(path: Path, url: str, *, mended: bool) -> Task:
    """Return dlt's merge of an Arrow table by primary key, sent as Parquet: its fastest way."""
    import adbc_driver_postgresql.dbapi  # noqa: F401 - dlt would import it on the clock
    import dlt
    import pyarrow.compute as pc
    from pyarrow import csv

    options = csv.ParseOptions(invalid_row_handler=lambda _: "skip") if mended else None

    @dlt.resource(name=TABLE, write_disposition="merge", primary_key="order_id")
    def sales() -> Any:
        table = csv.read_csv(path, parse_options=options)
        yield table.filter(pc.is_valid(table["order_id"])) if mended else table

    def run() -> None:
        pipeline = dlt.pipeline(
            "peer",
            destination=dlt.destinations.postgres(credentials=url),
            dataset_name="public",
            pipelines_dir=os.environ["DLT_DATA_DIR"],
        )
        pipeline.run(sales(), loader_file_format="parquet")

    return run


TOOLS: dict[str, Callable[..., Task]] = {
    "polars": prepare_polars,
    "pandas": prepare_pandas,
    "pandas_adbc": prepare_pandas_adbc,
    "dlt": prepare_dlt,
}


def explain(error: Exception) -> str:
    """Return the error's essence in one line: the innermost cause, its kind and first sentence."""
    inner: BaseException = error
    while inner.__cause__ is not None:
        inner = inner.__cause__
    text = " ".join(str(inner).split())
    return f"{type(inner).__name__}: {text[:160]}"


def main() -> None:
    """Answer with the seconds the load took, or with what it was stopped by."""
    given = json.load(sys.stdin)
    # The tools print on standard output too, and ours is the answer's.
    answer_to, sys.stdout = sys.stdout, sys.stderr
    run = TOOLS[given["tool"]](Path(given["path"]), given["url"], mended=given["mended"])
    start = perf_counter()
    try:
        run()
    except Exception as error:  # noqa: BLE001 - whatever stops the tool is the result
        answer = {"error": explain(error)}
    else:
        answer = {"seconds": perf_counter() - start}
    json.dump(answer, answer_to)


if __name__ == "__main__":
    main()
