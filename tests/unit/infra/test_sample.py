import csv
import datetime as dt
import io
import re
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path

import pytest

from infra.sample.flaws import Flaw, Outcome
from infra.sample.generator import Sample, main, make_sample
from infra.sample.planting import SampleFile
from infra.sample.users import DIRTY_USER_ID, USERS_LEDGER, make_users
from schemas.dataset import DEFAULT_DATE_FORMATS, Kind, Spec
from schemas.datasets import ApiUsers, Customers, Products, Sales

RAW_FOLDER = Path(__file__).parents[3] / "data" / "raw"
EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
WORDS = {
    "category": {"books", "clothing", "electronics", "garden", "grocery", "toys"},
    "channel": {"store", "web", "phone"},
}
LEAST = {"customer_id": 1, "product_id": 1, "order_id": 1, "quantity": 1}
MOST = {"quantity": 10_000, "discount": 1}


class UnfitError(Exception):
    """The independent reader would not load this row."""


@pytest.fixture(scope="module")
def sample() -> Sample:
    return make_sample()


@pytest.fixture(params=[Customers, Products, Sales], ids=lambda each: each.spec.table)
def case(request: pytest.FixtureRequest, sample: Sample) -> tuple[Spec, SampleFile]:
    spec = request.param.spec
    return spec, next(each for each in sample.files if each.name == f"{spec.table}.csv")


def read_records(content: bytes) -> Iterator[tuple[int, list[str]]]:
    """Yield (first line, cells) as the csv module sees them, a line that is not UTF-8 as 1252."""
    lines = []
    for raw in content.splitlines(keepends=True):
        try:
            lines.append(raw.decode())
        except UnicodeDecodeError:
            lines.append(raw.decode("cp1252"))
    reader = csv.reader(lines)
    first = 1
    for cells in reader:
        yield first, cells
        first = reader.line_num + 1


def parse_cell(name: str, kind: Kind, text: str) -> object:
    """Read one cell in a way of its own, or raise UnfitError."""
    text = text.strip()
    if kind is Kind.DATE:
        value = parse_date(text)
    elif kind in (Kind.INTEGER, Kind.NUMBER, Kind.DECIMAL):
        value = parse_number(text, whole=kind is Kind.INTEGER)
        if not LEAST.get(name, 0) <= value <= MOST.get(name, 10**9):
            raise UnfitError(text)
    elif kind is Kind.BOOLEAN:
        value = {"true": True, "false": False}[text]
    else:
        value = text
        if name == "email" and not EMAIL.fullmatch(text):
            raise UnfitError(text)
        if text not in WORDS.get(name, {text}):
            raise UnfitError(text)
    return value


def parse_date(text: str) -> dt.date:
    for form in DEFAULT_DATE_FORMATS:
        try:
            return dt.datetime.strptime(text, form).date()  # noqa: DTZ007 - a date has no zone
        except ValueError:
            continue
    raise UnfitError(text)


def parse_number(text: str, *, whole: bool) -> Decimal:
    if re.fullmatch(r"\d{1,3}(,\d{3})+\.\d+", text):
        text = text.replace(",", "")
    elif re.fullmatch(r"\d{1,3}(\.\d{3})+,\d+", text):
        text = text.replace(".", "").replace(",", ".")
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise UnfitError(text) from None
    if whole and value != int(value):
        raise UnfitError(text)
    return value


def parse_row(spec: Spec, cells: list[str]) -> dict:
    if len(cells) != len(spec.columns):
        raise UnfitError(cells)
    row = {}
    for column, cell in zip(spec.columns, cells, strict=True):
        if cell.strip():
            row[column.name] = parse_cell(column.name, column.kind, cell)
        elif column.missing == "reject":
            raise UnfitError(column.name)
    return row


def test_the_committed_files_are_what_the_generator_writes(sample: Sample) -> None:
    for file in sample.files:
        assert (RAW_FOLDER / file.name).read_bytes() == file.content, (
            f"{file.name} differs: run python -m infra.sample.generator"
        )


def test_two_runs_write_the_same_bytes_and_another_seed_writes_others(sample: Sample) -> None:
    again, other = make_sample(), make_sample(seed=1)
    for one, same, different in zip(sample.files, again.files, other.files, strict=True):
        assert one == same
        assert one.content != different.content


def test_the_command_writes_the_files_and_says_what_is_in_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--folder", str(tmp_path / "new")]) == 0
    out = capsys.readouterr().out
    for name in ("customers.csv", "products.csv", "sales_data.csv"):
        assert (tmp_path / "new" / name).read_bytes() == (RAW_FOLDER / name).read_bytes()
        assert name in out


def test_a_folder_that_cannot_be_made_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").write_text("a file")
    assert main(["--folder", str(tmp_path / "taken")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "taken" in error


def test_the_files_have_the_sizes_and_columns_they_should(sample: Sample) -> None:
    sizes = {"customers.csv": 5_000, "products.csv": 500, "sales_data.csv": 50_000}
    headers = {f"{each.spec.table}.csv": each.spec.names for each in (Customers, Products, Sales)}
    for file in sample.files:
        (_, header), *records = read_records(file.content)
        assert tuple(header) == headers[file.name]
        assert len(records) == file.records == sizes[file.name]
        assert len(file.content) < 3_000_000


def test_about_one_percent_is_dirty_and_every_kind_occurs_a_few_times(sample: Sample) -> None:
    counts = sum((Counter(file.counts) for file in sample.files), Counter())
    assert 0.008 < counts.total() / 55_500 < 0.013
    assert {flaw: counts[flaw] for flaw in Flaw if counts[flaw] < 2} == {}


def test_every_line_number_points_at_its_record(case: tuple[Spec, SampleFile]) -> None:
    _, file = case
    (_, header), *records = read_records(file.content)
    for each in file.planted:
        line, cells = records[each.record - 1]
        assert line == each.line
        if each.key and each.column != header[0] and len(cells) == len(header):
            assert cells[0] == each.key


def test_an_independent_reader_quarantines_exactly_the_planted_rows(
    case: tuple[Spec, SampleFile],
) -> None:
    spec, file = case
    refused = []
    for line, cells in list(read_records(file.content))[1:]:
        try:
            parse_row(spec, cells)
        except UnfitError:
            refused.append(line)
    assert refused == [each.line for each in file.quarantined]
    assert len(refused) > 0


def test_an_independent_reader_counts_the_ledger(case: tuple[Spec, SampleFile]) -> None:
    spec, file = case
    duplicates = superseded = quarantined = 0
    seen: set[tuple] = set()
    newest: dict = {}
    for _, cells in list(read_records(file.content))[1:]:
        try:
            row = parse_row(spec, cells)
        except UnfitError:
            quarantined += 1
            continue
        if tuple(cells) in seen:
            duplicates += 1
            continue
        seen.add(tuple(cells))
        superseded += row[spec.key[0]] in newest
        newest[row[spec.key[0]]] = row
    ledger = file.ledger
    assert (ledger.duplicates, ledger.superseded) == (duplicates, superseded)
    assert ledger.quarantined == quarantined
    assert ledger.inserted == len(newest)
    assert {str(key) for key in newest} == file.loaded_keys
    assert ledger.read == len(newest) + duplicates + superseded + quarantined


def test_a_loaded_flaw_reads_as_its_clean_text(case: tuple[Spec, SampleFile]) -> None:
    spec, file = case
    records = list(read_records(file.content))[1:]
    for each in file.planted:
        if each.flaw.outcome is not Outcome.LOADED:
            continue
        row = parse_row(spec, records[each.record - 1][1])
        column = spec.column(each.column)
        if not each.clean:
            assert each.column not in row
        else:
            assert row[each.column] == parse_cell(column.name, column.kind, each.clean)


def test_a_duplicate_stands_after_the_row_it_repeats(case: tuple[Spec, SampleFile]) -> None:
    _, file = case
    by_line = dict(read_records(file.content))
    for each in file.planted:
        if each.first_line is None:
            continue
        assert each.first_line < each.line
        first, second = by_line[each.first_line], by_line[each.line]
        assert first[0] == second[0]
        assert (first == second) == (each.flaw is Flaw.EXACT_DUPLICATE)


def test_sales_name_no_unknown_key_but_the_planted_ones(sample: Sample) -> None:
    loaded = {
        "customer_id": sample.customers.loaded_keys,
        "product_id": sample.products.loaded_keys,
    }
    unknown: dict[str, set[str]] = {"customer_id": set(), "product_id": set()}
    _, *records = read_records(sample.sales.content)
    for _, cells in records:
        try:
            row = parse_row(Sales.spec, cells)
        except UnfitError:
            continue
        for name, members in unknown.items():
            if str(row[name]) not in loaded[name]:
                members.add(str(row[name]))
    for name, members in unknown.items():
        assert members == sample.sales.unknown_members(name)
        assert members


def test_some_lines_are_windows_1252_and_all_others_utf_8(sample: Sample) -> None:
    broken = 0
    for raw in io.BytesIO(sample.customers.content):
        try:
            raw.decode()
        except UnicodeDecodeError:
            broken += 1
    assert broken == sample.customers.counts[Flaw.WINDOWS_BYTES]
    assert "é".encode() in sample.customers.content


def test_the_fills_are_the_empty_cells_of_the_column(sample: Sample) -> None:
    index = Customers.spec.names.index("country")
    rows = [cells for _, cells in read_records(sample.customers.content) if len(cells) == 7]
    assert sum(not cells[index] for cells in rows) == sample.customers.fills("country") == 3


def test_the_users_have_the_shape_of_the_contract_when_flattened() -> None:
    users = make_users()
    assert [user["id"] for user in users] == list(range(1, 11))
    for user in users:
        assert set(user["address"]) == {"street", "suite", "city", "zipcode", "geo"}
        flat = {name for name in user if name not in ("address", "company")}
        flat |= {f"address_{name}" for name in user["address"] if name != "geo"}
        flat |= {f"address_geo_{name}" for name in user["address"]["geo"]}
        flat |= {f"company_{name.lower()}" for name in user["company"]}
        assert flat == set(ApiUsers.spec.names)
        assert -90 <= float(user["address"]["geo"]["lat"]) <= 90


def test_one_users_address_is_dirty() -> None:
    dirty = [user["id"] for user in make_users() if not EMAIL.fullmatch(user["email"])]
    assert dirty == [DIRTY_USER_ID]
    assert (USERS_LEDGER.read, USERS_LEDGER.inserted, USERS_LEDGER.quarantined) == (10, 9, 1)
