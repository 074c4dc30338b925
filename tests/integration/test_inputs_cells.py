"""What cells of real exports hold: dates, numbers, gaps, text that other formats take for marks."""

from pathlib import Path

from infra.postgres.connection import Pool
from tests.cells import in_clear

HEADER = "customer_id,name,signup_date\n"
TEN_MEGABYTES = 10 << 20


async def test_dates_of_every_sample_format_are_read_and_impossible_ones_quarantined(
    tmp_path: Path, pool: Pool, load
) -> None:
    good = ["2024-03-09", "09/03/2024", "09.03.2024", "2024/03/09", "09-Mar-2024", "Mar 09, 2024"]
    good += [" 2024-03-09 ", "2024-03-09 00:00:00"]
    bad = [
        "2024-02-30",
        "2023-02-29",
        "00/01/2024",
        "2024-13-01",
        "31.04.2024",
        "9999999",
        "24-3-9",
    ]
    bad += ["2024-03-09 12:34:56", "0000-00-00"]
    lines = [f'{n},Ann,"{each}"\n' for n, each in enumerate(good + bad, 1)]
    path = tmp_path / "customers.csv"
    path.write_bytes((HEADER + "".join(lines)).encode())
    report = await load(path)
    dates = await fetch(
        pool, "SELECT DISTINCT signup_date::text AS day FROM warehouse.dim_customers"
    )
    assert [row["day"] for row in dates] == ["2024-03-09"]
    kept = await fetch(pool, "SELECT line, rule FROM metadata.quarantine ORDER BY line")
    first_bad = len(good) + 2
    assert [(row["line"], row["rule"]) for row in kept] == [
        (first_bad + n, "type") for n in range(len(bad))
    ]
    assert report.ledger.inserted == len(good)


async def test_nan_and_infinity_are_missing_or_quarantined_but_never_numbers(
    tmp_path: Path, pool: Pool, load
) -> None:
    header = "product_id,name,category,price,weight_kg\n"
    cells = ["NaN", "nan", "Infinity", "-inf", "1e400", "1.5"]
    path = tmp_path / "products.csv"
    path.write_text(
        header + "".join(f"{n},Spade,garden,1.00,{each}\n" for n, each in enumerate(cells, 1))
    )
    report = await load(path)
    rows = await fetch(
        pool, "SELECT product_id, weight_kg FROM warehouse.dim_products ORDER BY product_id"
    )
    assert [tuple(row) for row in rows] == [(1, None), (2, None), (6, 1.5)]
    kept = await fetch(pool, "SELECT line, column_name FROM metadata.quarantine ORDER BY line")
    assert [tuple(row) for row in kept] == [(4, "weight_kg"), (5, "weight_kg"), (6, "weight_kg")]
    assert report.ledger.read == len(cells)


async def test_missing_values_are_rejected_left_empty_or_filled_and_each_fill_is_counted(
    tmp_path: Path, pool: Pool, load
) -> None:
    path = tmp_path / "customers.csv"
    path.write_text(
        "customer_id,name,city,country,signup_date\n"
        "1,Ann,,,2024-01-01\n"
        "2,Bo,Oslo,NO,2024-01-01\n"
        "3,,Rome,IT,2024-01-01\n"
        "4,Di,Graz,,2024-01-01\n"
    )
    report = await load(path)
    rows = await fetch(
        pool, "SELECT customer_id, city, country FROM warehouse.dim_customers ORDER BY 1"
    )
    assert [tuple(row) for row in rows] == [
        (1, None, "unknown"),
        (2, "Oslo", "NO"),
        (4, "Graz", "unknown"),
    ]
    assert (report.ledger.filled, report.ledger.quarantined) == (2, 1)
    [counted] = await fetch(
        pool,
        "SELECT checked, failed, statistics FROM metadata.quality_results"
        " WHERE column_name = 'country' AND rule = 'completeness'",
    )
    assert (counted["checked"], counted["failed"]) == (4, 2)
    assert '"filled": 2' in counted["statistics"]


async def test_an_unknown_column_is_kept_in_staging_and_warehouse_and_noted(
    tmp_path: Path, pool: Pool, load
) -> None:
    path = tmp_path / "customers.csv"
    path.write_text(
        'customer_id,name,signup_date,Loyalty Tier,x";y\n'
        '1,Ann,2024-01-01,gold,"a ""b"" \\N"\n'
        "2,Bo,2024-01-01,,\n"
    )
    report = await load(path)
    for table, order in (("warehouse.dim_customers", 1), ("staging.customers", 1)):
        rows = await fetch(
            pool,
            f"SELECT _extra->>'loyalty_tier' AS tier, _extra->>'x_y' AS other FROM {table}"  # noqa: S608
            f" ORDER BY customer_id LIMIT {order + 1}",
        )
        assert [tuple(row) for row in rows] == [("gold", 'a "b" \\N'), (None, None)]
    assert "'Loyalty Tier'" in report.notes[0]
    [notes] = await fetch(pool, "SELECT notes FROM metadata.source_files")
    assert notes["notes"] == list(report.notes)


async def test_a_header_that_names_a_column_twice_loses_neither_and_says_so(
    tmp_path: Path, pool: Pool, load
) -> None:
    path = tmp_path / "customers.csv"
    path.write_text("customer_id,name,signup_date,name\n1,Ann,2024-01-01,Second\n")
    report = await load(path)
    [row] = await fetch(
        pool, "SELECT name, _extra->>'name_2' AS other FROM warehouse.dim_customers"
    )
    assert tuple(row) == ("Ann", "Second")
    assert any("more than once" in note for note in report.notes)


async def test_text_arrives_in_the_warehouse_byte_for_byte(
    tmp_path: Path, pool: Pool, load
) -> None:
    given = [
        "\\N",
        "\\.",
        "\\",
        "\\\\",
        "a\\nb",
        "a\tb\\tc",
        "line\nbreak\r\nand\rmore",
        "''; DROP TABLE x; --",
        '{a,"b"}',
        "a\u2028\u200f\u202e\ufffd",
        "e\u0301 is not \u00e9",
        "\x01\x02\x1f",
        "NULL",
        "null",
        "𐍈" * 50,
    ]
    path = tmp_path / "customers.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write("customer_id,name,city,signup_date\n")
        for number, each in enumerate(given, 1):
            quoted = each.replace('"', '""')
            file.write(f'{number},N,"{quoted}",2024-01-01\n')
    await load(path)
    rows = await fetch(
        pool,
        "SELECT w.city, s.city AS staged FROM warehouse.dim_customers AS w"
        " JOIN staging.customers AS s USING (customer_id) ORDER BY customer_id",
    )
    assert [row["city"].encode() for row in rows] == [each.encode() for each in given]
    assert [row["staged"] for row in rows] == given


async def test_ten_megabytes_of_text_in_one_cell_are_kept(tmp_path: Path, pool: Pool, load) -> None:
    path = tmp_path / "customers.csv"
    path.write_text(f"customer_id,name,city,signup_date\n1,Ann,{'ä' * (5 << 20)},2024-01-01\n")
    await load(path)
    [row] = await fetch(
        pool,
        "SELECT octet_length(city) AS size, ltrim(city, 'ä') AS rest FROM warehouse.dim_customers",
    )
    assert tuple(row) == (TEN_MEGABYTES, "")


async def fetch(pool: Pool, query: str) -> list:
    async with pool.acquire() as connection:
        return in_clear(await connection.fetch(query))
