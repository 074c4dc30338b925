"""A suggested contract is Python that runs, and accepts nearly all of what it was made from."""

import keyword
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.dataset import Dataset, Kind, Role, Spec
from schemas.errors import RefusedError, SettingError
from tasks.clean import Tally, bind, clean
from tasks.extract_csv import CsvFile
from tasks.guess_contract import guess_contract
from tasks.suggest_contract import main, suggest_contract

ROOT = Path(__file__).parents[3]
SAMPLES = ("customers", "products", "sales_data")


def made_of(source: str) -> type[Dataset]:
    names: dict[str, object] = {}
    exec(compile(source, "suggested", "exec"), names)  # noqa: S102 - what is under test
    classes = [
        each
        for each in names.values()
        if isinstance(each, type) and issubclass(each, Dataset) and each is not Dataset
    ]
    assert len(classes) == 1
    return classes[0]


def suggest(folder: Path, content: str, name: str = "orders.csv", **more: str) -> Spec:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return made_of(suggest_contract(path, **more)).spec


def accepted_share(path: Path, spec: Spec) -> float:
    accepted = rows = 0
    with CsvFile(path) as file:
        binding = bind(file.header, spec, str(path))
        for block in file:
            frame, rejects = clean(
                block.cells, block.lines, block.raw_text, spec=spec, binding=binding, tally=Tally()
            )
            accepted += frame.height
            rows += frame.height + len(rejects)
    return accepted / rows


@pytest.mark.parametrize("sample", SAMPLES)
def test_the_samples_give_contracts_that_accept_them(sample: str) -> None:
    path = ROOT / "data" / "raw" / f"{sample}.csv"
    source = suggest_contract(path)
    spec = made_of(source).spec
    assert accepted_share(path, spec) >= 0.95
    assert all(len(line) <= 100 for line in source.splitlines())
    assert f"# There is a contract for '{sample}' already" in source


def test_the_sample_of_sales_is_seen_for_what_it_is() -> None:
    spec = made_of(suggest_contract(ROOT / "data/raw/sales_data.csv", "Sold")).spec
    assert (spec.name, spec.table, spec.role, spec.key) == (
        "Sold",
        "sales_data",
        Role.FACT,
        ("order_id",),
    )
    assert spec.event_time == "order_date"
    assert spec.column("quantity").kind is Kind.INTEGER
    assert spec.column("unit_price").kind is Kind.DECIMAL
    assert spec.column("channel").nullable


def test_the_sample_of_customers_is_a_dimension_with_personal_columns() -> None:
    spec = made_of(suggest_contract(ROOT / "data/raw/customers.csv")).spec
    assert (spec.role, spec.key) == (Role.DIMENSION, ("customer_id",))
    assert {each.name for each in spec.columns if each.pii} == {"name", "email"}
    assert spec.column("signup_date").kind is Kind.DATE


UGLY_HEADER = [
    "id",
    'a"""; import os #',
    "line\nbreak",
    "back\\slash",
    "class",
    "validate",
    "xmin",
    "E-Mail",
    "Größe (cm)",
    "日付",
    "金額",
    "_line",
    "2nd",
    "select",
    "x" * 200,
    "Note",
    "note!",
    "👩‍👩‍👧 phone",
]


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def test_an_ugly_header_gives_a_contract_that_runs_and_accepts_its_rows(tmp_path: Path) -> None:
    lines = [",".join(map(quoted, UGLY_HEADER))]
    lines += [",".join([str(row), *["1"] * (len(UGLY_HEADER) - 1)]) for row in range(50)]
    path = tmp_path / 'we"ird """ näme;2024.csv'
    path.write_text("\n".join(lines), encoding="utf-8")
    source = suggest_contract(path)
    spec = made_of(source).spec
    assert accepted_share(path, spec) == 1.0
    assert {"id", "e_mail", "select", "line", "x_2nd", "phone", "line_break"} <= set(spec.names)
    for name in ("class", "validate", "xmin", "note"):
        assert name not in spec.names
    assert "No contract can have a column named 'class'" in source
    assert r"No contract can have a column named '\u91d1\u984d'" in source
    assert "# Only files named we_ird_name.csv" in source
    assert spec.key == ("id",)


def test_dates_of_another_country_get_their_formats(tmp_path: Path) -> None:
    rows = [f"{each},{each % 12 + 1:02}/{each % 28 + 1:02}/2024" for each in range(100)]
    spec = suggest(tmp_path, "\n".join(["id,sold_on", *rows]))
    column = spec.column("sold_on")
    assert column.kind is Kind.DATE
    assert column.formats[0] == "%m/%d/%Y"


def test_times_prices_codes_and_flags_are_told_apart(tmp_path: Path) -> None:
    header = "sku,seen_at,price,zip,phone,flag,count,weight"
    rows = [
        f"A{each},2024-01-02T10:00:{each:02}Z,{each}.505,0{each},{each}123,{each % 2 == 0},{each},"
        f"{each / 8}"
        for each in range(10, 59)
    ]
    spec = suggest(tmp_path, "\n".join([header, *rows]))
    assert {each.name: each.kind for each in spec.columns} == {
        "sku": Kind.TEXT,
        "seen_at": Kind.TIMESTAMP,
        "price": Kind.DECIMAL,
        "zip": Kind.TEXT,
        "phone": Kind.TEXT,
        "flag": Kind.BOOLEAN,
        "count": Kind.INTEGER,
        "weight": Kind.NUMBER,
    }
    assert spec.column("price").scale == 3
    assert spec.key == ("sku",)
    assert [each.name for each in spec.columns if each.pii] == ["zip", "phone"]


def test_without_a_column_that_could_be_the_key_a_dataset_stays_in_staging(tmp_path: Path) -> None:
    spec = suggest(tmp_path, "a,b\n" + "1,x\n1,y\n" * 20)
    assert (spec.role, spec.key) == (Role.STAGING, ())


def test_a_column_that_is_never_filled_is_text_that_may_be_missing(tmp_path: Path) -> None:
    spec = suggest(tmp_path, "id,note\n1,\n2,\n3,\n")
    assert (spec.column("note").kind, spec.column("note").nullable) == (Kind.TEXT, True)


def test_a_header_alone_gives_a_contract_too(tmp_path: Path) -> None:
    spec = suggest(tmp_path, "id,note\n")
    assert [each.kind for each in spec.columns] == [Kind.TEXT, Kind.TEXT]


def test_dirt_that_is_spread_thinly_is_left_to_the_quarantine(tmp_path: Path) -> None:
    rows = [f"{each},{'many' if each % 70 == 0 else each}" for each in range(1, 700)]
    spec = suggest(tmp_path, "\n".join(["id,count", *rows]))
    assert spec.column("count").kind is Kind.INTEGER


def test_columns_are_loosened_until_enough_rows_pass(tmp_path: Path) -> None:
    # Each column is dirty in its own 2% of the rows: together that is too much.
    header = ["id", *(f"c{each}" for each in range(6))]
    lines = [
        [str(row), *("x" if row % 51 == place else str(row % 7) for place in range(6))]
        for row in range(510)
    ]
    path = tmp_path / "dirty.csv"
    path.write_text("\n".join(",".join(each) for each in [header, *lines]))
    spec = made_of(suggest_contract(path)).spec
    assert accepted_share(path, spec) >= 0.95
    kinds = {each.kind for each in spec.columns}
    assert kinds == {Kind.INTEGER, Kind.TEXT}


cells = st.none() | st.sampled_from(
    ["", "1", "2", "0.5", "007", "yes", "no", "2024-01-01", "x", "null", "inf", "1,5", "\0", " "]
)
HEADERS = ["id", "price", "customer_id", "note", "sold_on", "t_key", "id_key"]


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(*[cells] * len(HEADERS)), max_size=15),
    st.permutations(HEADERS),
)
def test_any_rows_give_a_guess_that_accepts_nearly_all_of_them(
    rows: list[tuple[str | None, ...]], header: list[str]
) -> None:
    rows = [tuple("" if cell == "\0" else cell for cell in row) for row in rows]
    frame = pl.DataFrame(rows, schema=dict.fromkeys(header, pl.String), orient="row")
    guess = guess_contract(frame, name="Guessed", table="t")
    assert guess.accepted >= guess.rows * 0.95
    assert guess.rows == frame.height


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.csv", "", "is empty (0 bytes)"),
        ("words.csv", "class,xmin\n1,2\n", "No column of "),
        ("gone.csv", None, "does not exist"),
    ],
)
def test_what_gives_no_contract_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: str | None, said: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(RefusedError):
        suggest_contract(path)
    assert main([str(path)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("name", ["two words", "1st", "a-b", *keyword.kwlist[:2]])
def test_a_name_that_cannot_name_a_class_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id\n1\n")
    with pytest.raises(SettingError, match="cannot name a class"):
        suggest_contract(path, name)


def test_the_command_prints_what_can_be_pasted() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tasks.suggest_contract",
            "data/raw/products.csv",
            "--name",
            "Wares",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert made_of(done.stdout).spec.name == "Wares"
    assert done.stderr == ""
