"""Cells, lines and raw text against Python's own csv reader, wherever the blocks are cut."""

import csv
import io
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.extract_csv import CsvFile

HUGE = 4 << 20
CELL = st.one_of(
    st.text(
        alphabet=list("abc 1,;\t|\"'\r\n\\é\u20ac\u05d0\U0001f600\ufeff\u2028\x0b"), max_size=12
    ),
    st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=6),
)


class Seen(NamedTuple):
    cells: tuple[str | None, ...]
    line: int
    raw: str
    reason: str


def read_all(path: Path, block_bytes: int, known: tuple[str, ...] = ()) -> tuple[list[Seen], str]:
    """Return every record in file order, and the delimiter."""
    file = CsvFile(path, known_columns=known, block_bytes=block_bytes)
    seen: list[Seen] = []
    for block in file:
        raws = block.raw_text(range(block.cells.height))
        rows = zip(block.cells.iter_rows(), block.lines, raws, strict=True)
        part = [Seen(cells, line, raw, "") for cells, line, raw in rows]
        part += [Seen((), each.line, each.raw, each.reason) for each in block.broken]
        seen += sorted(part, key=lambda one: one.line)
    assert file.records == len(seen)
    return seen, file.delimiter


def read_by_csv(text: str, delimiter: str) -> list[tuple[list[str], int]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    records: list[tuple[list[str], int]] = []
    line = 1
    for cells in reader:
        if cells:
            records.append((cells, line))
        line = reader.line_num + 1
    return records


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[list[str]], int]:
    width = draw(st.integers(1, 4))
    row = st.lists(CELL, min_size=width, max_size=width)
    ragged = st.lists(CELL, min_size=1, max_size=5)
    # With one column there is no telling the delimiter, and so no telling what is ragged.
    rows = st.lists(st.one_of(row, row, row, row, ragged) if width > 1 else row, max_size=8)
    return draw(rows), width


@settings(max_examples=250, deadline=None)
@given(
    table=tables(),
    delimiter=st.sampled_from(",;\t|"),
    line_end=st.sampled_from(["\n", "\r\n", "\r", "\r\r\n", "\n\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    block_bytes=st.sampled_from([1, 7, 64, HUGE]),
    ends_open=st.booleans(),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
)
def test_cells_lines_and_counts_are_those_of_csv_reader(
    table: tuple[list[list[str]], int],
    delimiter: str,
    line_end: str,
    quoting: int,
    block_bytes: int,
    *,
    ends_open: bool,
    encoding: str,
) -> None:
    rows, width = table
    names = [f"c{number}" for number in range(width)]
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, lineterminator=line_end, quoting=quoting)
    writer.writerows([names, *rows])
    text = out.getvalue()
    if ends_open:
        text = text.removesuffix(line_end)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "t.csv")
        path.write_bytes(text.encode(encoding))
        seen, found = read_all(path, block_bytes, tuple(names))
    if width > 1:
        assert found == delimiter
    expected = read_by_csv(text, found)[1:]
    assert len(seen) == len(expected)
    for one, (cells, line) in zip(seen, expected, strict=True):
        assert one.line == line
        assert next(csv.reader(io.StringIO(one.raw, newline=""), delimiter=found)) == cells
        if len(cells) == width:
            # Only QUOTE_MINIMAL writes empty cells without quotes, unless they are alone.
            bare = quoting == csv.QUOTE_MINIMAL and width > 1
            assert list(one.cells) == [(cell or None) if bare else cell for cell in cells]
            assert one.reason == ""
        else:
            assert one.reason == "column_count"


@settings(max_examples=400, deadline=None)
@given(
    body=st.text(alphabet='a,"\n\r \x00é', max_size=80),
    block_bytes=st.sampled_from([1, 2, 3, 5, 16, 64]),
)
def test_the_outcome_of_malformed_text_does_not_depend_on_where_blocks_are_cut(
    body: str, block_bytes: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "t.csv")
        path.write_bytes(f"x,y\n{body}".encode())
        whole, _ = read_all(path, HUGE, ("x", "y"))
        cut, _ = read_all(path, block_bytes, ("x", "y"))
    assert cut == whole
    # Nothing is lost: between the records there are line ends, and nothing else.
    rest = body
    for one in whole:
        before, _, rest = rest.partition(one.raw)
        assert before.strip("\r\n") == ""
    assert rest.strip("\r\n") == ""


@pytest.mark.parametrize(
    ("encoding", "line_end"),
    [
        ("utf-8", "\n"),
        ("utf-8", "\r\n"),
        ("utf-8", "\r"),
        ("utf-8-sig", "\n"),
        ("utf-16", "\r\n"),
        ("utf-16-be", "\n"),
        ("utf-32", "\r"),
        ("cp1252", "\r\n"),
    ],
)
def test_a_file_of_many_blocks_is_read_whole_in_every_encoding(
    tmp_path: Path, encoding: str, line_end: str
) -> None:
    lines = ["id,naïve"]
    for number in range(4000):
        lines.append(
            f'{number},"Zoë, €{number} {"é" * 40}{line_end}next"'
            if number % 7 == 0
            else f"{number},{'ä' * 9}"
        )
        if number % 11 == 0:
            lines.append("")
    path = tmp_path / "t.csv"
    text = line_end.join(lines)
    path.write_bytes(text.encode(encoding))
    expected = read_by_csv(text, ",")[1:]
    assert path.stat().st_size > 65_536
    for block_bytes in (601, HUGE):
        seen, _ = read_all(path, block_bytes)
        assert [(list(one.cells), one.line) for one in seen] == expected


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_stray_quotes_far_apart_change_nothing_else_wherever_blocks_are_cut(
    tmp_path: Path, line_end: str
) -> None:
    lines = ["x,y"]
    for number in range(6000):
        odd = {0: '5" pipe', 500: '"open', 501: '"a "b" c"', 502: f'"two{line_end}lines"'}
        lines.append(f"{number},{odd.get(number % 1000, 'plain')}")
        if number % 300 == 0:
            lines.append("")
    path = tmp_path / "t.csv"
    path.write_bytes(line_end.join(lines).encode())
    whole, _ = read_all(path, HUGE)
    assert len(whole) == 6000
    assert [one.cells[0] for one in whole if one.cells] == [
        str(number) for number in range(6000) if number % 1000 not in {500, 501}
    ]
    assert [one.reason for one in whole if one.reason] == ["unterminated_quote", "stray_quote"] * 6
    text_lines = line_end.join(lines).split(line_end)
    assert all(text_lines[one.line - 1] == one.raw.split(line_end)[0] for one in whole)
    for block_bytes in (997, 20_000):
        assert read_all(path, block_bytes)[0] == whole
