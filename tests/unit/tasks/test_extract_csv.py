"""What each kind of CSV text becomes: cells, lines, broken rows with their reason, notes."""

from pathlib import Path

import polars as pl
import pytest

from schemas.errors import RefusedError
from tasks.csv_records import MAX_QUOTED_BYTES
from tasks.extract_csv import Block, CsvFile


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "t.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(path: Path, *known: str) -> tuple[CsvFile, list[Block]]:
    file = CsvFile(path, known_columns=known)
    return file, list(file)


def rows_of(blocks: list[Block]) -> list[tuple[str | None, ...]]:
    return [row for block in blocks for row in block.cells.iter_rows()]


def lines_of(blocks: list[Block]) -> list[int]:
    return [line for block in blocks for line in block.lines]


def broken_of(blocks: list[Block]) -> list[tuple[int, str, str]]:
    return [(each.line, each.reason, each.raw) for block in blocks for each in block.broken]


def test_cells_are_text_and_only_an_empty_cell_without_quotes_is_null(tmp_path: Path) -> None:
    file, blocks = read(write(tmp_path, 'a,b,c\n1,,""\nNULL,NaN, \n'))
    assert blocks[0].cells.schema == {"a": pl.String, "b": pl.String, "c": pl.String}
    assert blocks[0].lines.dtype == pl.Int64
    assert rows_of(blocks) == [("1", None, ""), ("NULL", "NaN", " ")]
    assert file.records == 2
    assert file.notes == []


def test_an_empty_last_cell_is_null_even_where_the_file_ends_without_a_line_end(
    tmp_path: Path,
) -> None:
    assert rows_of(read(write(tmp_path, 'a,b\n1,2\n"",'))[1]) == [("1", "2"), ("", None)]
    assert rows_of(read(write(tmp_path, 'a,b\n1,2\n,""'))[1]) == [("1", "2"), (None, "")]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
def test_any_line_end_will_do_and_the_last_may_be_missing(
    tmp_path: Path, line_end: str, *, last: bool
) -> None:
    text = line_end.join(["a,b", "1,x", "", "2,y"]) + line_end * last
    file, blocks = read(write(tmp_path, text))
    assert rows_of(blocks) == [("1", "x"), ("2", "y")]
    assert lines_of(blocks) == [2, 4]
    assert file.records == 2


def test_lines_are_exact_after_quoted_line_ends_and_blank_lines(tmp_path: Path) -> None:
    text = '\n\n"a",b\r\n\r\n"1\r\n2\n3",x\r\n4,"a ""quoted"" word"\r\n\r\n5,y\r\n'
    _, blocks = read(write(tmp_path, text))
    assert rows_of(blocks) == [("1\r\n2\n3", "x"), ("4", 'a "quoted" word'), ("5", "y")]
    assert lines_of(blocks) == [5, 8, 10]
    assert blocks[0].raw_text([2, 0]) == ["5,y", '"1\r\n2\n3",x']


def test_a_header_alone_has_no_blocks_and_is_no_error(tmp_path: Path) -> None:
    for text in ("a,b\n", "a,b", "a,b\r\n\r\n"):
        file, blocks = read(write(tmp_path, text))
        assert blocks == []
        assert file.header == ("a", "b")
        assert file.records == 0
        assert len(file.sha256) == 64


def test_ragged_rows_are_broken_with_their_raw_text_and_line(tmp_path: Path) -> None:
    _, blocks = read(write(tmp_path, 'a,b,c\n1,2,3\n1,2\n\n1,2,3,"x\ny"\n4,5,6\n7\n'))
    assert rows_of(blocks) == [("1", "2", "3"), ("4", "5", "6")]
    assert lines_of(blocks) == [2, 7]
    assert broken_of(blocks) == [
        (3, "column_count", "1,2"),
        (5, "column_count", '1,2,3,"x\ny"'),
        (8, "column_count", "7"),
    ]
    assert [each.detail for each in blocks[0].broken] == [
        "has 2 fields where the header has 3",
        "has 4 fields where the header has 3",
        "has 1 field where the header has 3",
    ]
    assert blocks[0].raw_text([1]) == ["4,5,6"]


def test_a_file_of_ragged_rows_only_still_has_typed_columns(tmp_path: Path) -> None:
    _, blocks = read(write(tmp_path, "a,b\n1\n2\n"))
    assert blocks[0].cells.schema == {"a": pl.String, "b": pl.String}
    assert blocks[0].cells.height == 0
    assert len(blocks[0].broken) == 2


def test_a_quote_inside_an_unquoted_cell_is_text(tmp_path: Path) -> None:
    _, blocks = read(write(tmp_path, 'a,b\n5" pipe,12"\nO"Neill, "x"\n"q" ,"z"\n'))
    assert rows_of(blocks) == [('5" pipe', '12"'), ('O"Neill', ' "x"'), ("q ", "z")]


def test_text_after_a_closing_quote_breaks_that_row_alone(tmp_path: Path) -> None:
    _, blocks = read(write(tmp_path, 'a,b\n1,"the "best" shop"\n2,"fine"\n'))
    assert rows_of(blocks) == [("2", "fine")]
    assert broken_of(blocks) == [(2, "stray_quote", '1,"the "best" shop"')]


def test_a_quote_that_a_later_row_seems_to_close_swallows_no_row(tmp_path: Path) -> None:
    _, blocks = read(write(tmp_path, 'a,b\n1,"open\n2,x\n3,"y"\n4,z\n'))
    assert rows_of(blocks) == [("2", "x"), ("3", "y"), ("4", "z")]
    assert lines_of(blocks) == [3, 4, 5]
    assert broken_of(blocks) == [(2, "unterminated_quote", '1,"open')]


def test_a_quote_never_closed_breaks_its_line_and_no_other(tmp_path: Path) -> None:
    _, blocks = read(write(tmp_path, 'a,b\n0,"first\nsecond"\n1,"open\n2,x\n3,y'))
    assert rows_of(blocks) == [("0", "first\nsecond"), ("2", "x"), ("3", "y")]
    assert lines_of(blocks) == [2, 5, 6]
    assert broken_of(blocks) == [(4, "unterminated_quote", '1,"open')]


def test_a_quote_open_beyond_the_limit_breaks_its_line_and_no_other(tmp_path: Path) -> None:
    row = f"2,{'x' * 1000}\n"
    count = MAX_QUOTED_BYTES // 1000 + 10
    text = f'a,b\n1,"open\n{row * count}3,"closed"\n4,z\n'
    file, blocks = read(write(tmp_path, text))
    assert broken_of(blocks) == [(2, "unterminated_quote", '1,"open')]
    assert file.records == count + 3
    assert rows_of(blocks)[-2:] == [("3", "closed"), ("4", "z")]
    assert lines_of(blocks) == list(range(3, count + 5))


def test_a_cell_of_ten_megabytes_is_one_cell(tmp_path: Path) -> None:
    big = 'many "words"\n' * 800_000
    quoted = big.replace('"', '""')
    _, blocks = read(write(tmp_path, f'a,b\n1,"{quoted}"\n2,{"y" * 10_000_000}\n3,z\n'))
    rows = rows_of(blocks)
    assert len(big) > 10_000_000
    assert rows[0] == ("1", big)
    assert [len(row[1] or "") for row in rows] == [len(big), 10_000_000, 1]
    assert lines_of(blocks) == [2, 800_003, 800_004]


def test_a_record_with_a_nul_byte_is_broken(tmp_path: Path) -> None:
    _, blocks = read(write(tmp_path, 'a,b\n1,x\n2,y\0y\n3,"\0\n\0"\n4,z\n'))
    assert rows_of(blocks) == [("1", "x"), ("4", "z")]
    assert lines_of(blocks) == [2, 6]
    assert broken_of(blocks) == [(3, "nul_byte", "2,y\0y"), (4, "nul_byte", '3,"\0\n\0"')]


def test_tabs_and_backslashes_are_text(tmp_path: Path) -> None:
    _, blocks = read(write(tmp_path, "a,b\n\\N,x\\,\ty\\\n"), "a", "b")
    assert broken_of(blocks) == [(2, "column_count", "\\N,x\\,\ty\\")]
    _, blocks = read(write(tmp_path, "a,b\n\\N\t,\\\n"), "a", "b")
    assert rows_of(blocks) == [("\\N\t", "\\")]


def test_a_byte_order_mark_inside_the_file_stays_text(tmp_path: Path) -> None:
    path = write(tmp_path, "\ufeffa,b\n\ufeff1,x\n\ufeff2,y\n")
    for block_bytes in (7, 1000):
        blocks = list(CsvFile(path, block_bytes=block_bytes))
        assert rows_of(blocks) == [("\ufeff1", "x"), ("\ufeff2", "y")]


@pytest.mark.parametrize(
    ("mark", "codec", "found"),
    [
        (b"", "utf-8", "utf-8"),
        (b"\xef\xbb\xbf", "utf-8", "utf-8"),
        (b"\xff\xfe", "utf-16-le", "utf-16-le"),
        (b"\xfe\xff", "utf-16-be", "utf-16-be"),
        (b"", "utf-16-le", "utf-16-le"),
        (b"", "utf-16-be", "utf-16-be"),
        (b"\xff\xfe\0\0", "utf-32-le", "utf-32-le"),
        (b"\0\0\xfe\xff", "utf-32-be", "utf-32-be"),
    ],
)
def test_unicode_is_found_with_or_without_a_mark(
    tmp_path: Path, mark: bytes, codec: str, found: str
) -> None:
    text = "id,name\n1,\U0001f600 emoji\n2,שלום\n3,Zoë\n"
    file, blocks = read(write(tmp_path, mark + text.encode(codec)))
    assert file.header == ("id", "name")
    assert file.encoding == found
    assert rows_of(blocks) == [("1", "\U0001f600 emoji"), ("2", "שלום"), ("3", "Zoë")]
    assert file.notes == []


def test_lines_that_are_not_utf8_are_windows_1252_and_counted(tmp_path: Path) -> None:
    rows = [f"{number},{'é' * 20}".encode() for number in range(3000)]
    rows[2500] = "2500,Zoë €".encode("cp1252")
    rows[2900] = "2900,naïve".encode("cp1252")
    file, blocks = read(write(tmp_path, b"id,name\n" + b"\n".join(rows)))
    cells = rows_of(blocks)
    assert (cells[2499], cells[2500], cells[2900]) == (
        ("2499", "é" * 20),
        ("2500", "Zoë €"),
        ("2900", "naïve"),
    )
    assert file.notes == ["2 lines were not UTF-8 and read as Windows-1252"]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("extra", ["", "3,Ã©"])
def test_a_file_in_windows_1252_throughout_is_read_and_its_lines_counted(
    tmp_path: Path, line_end: str, extra: str
) -> None:
    lines = ["id,straße", "1,Zoë naïve", "2,plain", "4,€"]
    text = line_end.join([*lines, extra] if extra else lines)
    file, blocks = read(write(tmp_path, text.encode("cp1252")))
    assert file.header == ("id", "straße")
    assert rows_of(blocks)[:3] == [("1", "Zoë naïve"), ("2", "plain"), ("4", "€")]
    # What is valid UTF-8 on a line of its own is taken for that.
    assert rows_of(blocks)[3:] == ([("3", "é")] if extra else [])
    assert file.notes == ["3 lines were not UTF-8 and read as Windows-1252"]


@pytest.mark.parametrize("block_bytes", [5, 1 << 20])
def test_bytes_that_are_no_text_at_all_break_their_row(tmp_path: Path, block_bytes: int) -> None:
    path = write(tmp_path, b'id,name\n1,x\n2,\xe9\x81\n3,"y\n\x9d"\n4,z\n')
    file = CsvFile(path, block_bytes=block_bytes)
    blocks = list(file)
    assert rows_of(blocks) == [("1", "x"), ("4", "z")]
    assert broken_of(blocks) == [(3, "encoding", "2,é\x81"), (4, "encoding", '3,"y\n\x9d"')]
    assert file.records == 4


def test_half_a_character_in_utf16_breaks_its_row(tmp_path: Path) -> None:
    content = "id,name\n1,x\n2,".encode("utf-16") + b"\x00\xd8" + "\n3,z\n4,q".encode("utf-16-le")
    _, blocks = read(write(tmp_path, content + b"\x00"))
    assert rows_of(blocks) == [("1", "x"), ("3", "z")]
    assert broken_of(blocks) == [(3, "encoding", "2,\ufffd"), (5, "encoding", "4,q\ufffd")]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found_outside_quotes(tmp_path: Path, delimiter: str) -> None:
    header = delimiter.join(["id", '"na,m;e|s\t,,,;;;"', "price"])
    rows = [delimiter.join([str(number), "x y", '"1,5;|\t"']) for number in range(5)]
    file, blocks = read(write(tmp_path, "\n".join([header, *rows])))
    assert file.delimiter == delimiter
    assert file.header == ("id", "na,m;e|s\t,,,;;;", "price")
    assert rows_of(blocks)[4] == ("4", "x y", "1,5;|\t")


def test_known_columns_decide_between_delimiters(tmp_path: Path) -> None:
    text = "a,b;Total,net\n1,2;3,4\n5,6;7,8\n"
    assert read(write(tmp_path, text), "a,b", "total,net")[0].delimiter == ";"
    assert read(write(tmp_path, text), "a", "NET")[0].delimiter == ","


def test_decimal_commas_do_not_hide_semicolons(tmp_path: Path) -> None:
    file, blocks = read(write(tmp_path, "id;price;qty\n1;1,50;3\n2;2,75;4\n"))
    assert file.delimiter == ";"
    assert rows_of(blocks) == [("1", "1,50", "3"), ("2", "2,75", "4")]


def test_a_file_of_one_column_works_whatever_its_cells_hold(tmp_path: Path) -> None:
    file, blocks = read(write(tmp_path, 'comment\nhello\n\nhello, world\n"a\nb"\n""\n'))
    assert file.header == ("comment",)
    assert rows_of(blocks) == [("hello",), ("hello, world",), ("a\nb",), ("",)]
    assert lines_of(blocks) == [2, 4, 5, 7]


def test_header_names_are_stripped_distinct_and_noted(tmp_path: Path) -> None:
    long = "Ü" * 200
    header = f' x ,x,,x_2,"a;""b\n",{long},\u202eselect,x,'
    file, blocks = read(write(tmp_path, f"{header}\n1,2,3,4,5,6,7,8,9\n"))
    assert file.header == (
        *("x", "x_3", "column_3", "x_2", 'a;"b', long, "\u202eselect", "x_4", "column_9"),
    )
    assert rows_of(blocks) == [tuple("123456789")]
    assert file.notes == [
        "the header names column 'x' more than once; number 2 is 'x_3'",
        "the header gives column 3 no name; it is 'column_3'",
        "the header names column 'x' more than once; number 3 is 'x_4'",
        "the header gives column 9 no name; it is 'column_9'",
    ]


@pytest.mark.parametrize("text", ['a,"b\n1,2\n', 'a,"b"c\n1,2\n', "a,b\0\n1,2\n", b"a,\x81\n1,2\n"])
def test_a_header_that_cannot_be_read_refuses_the_file(tmp_path: Path, text: str | bytes) -> None:
    with pytest.raises(RefusedError, match=r"has no usable header: line 1 .*; export it again\."):
        read(write(tmp_path, text))


def test_a_header_longer_than_the_sample_is_read(tmp_path: Path) -> None:
    names = [f"column_with_a_long_name_{number}" for number in range(5000)]
    file, blocks = read(write(tmp_path, ",".join(names) + "\n" + "," * 4999 + "\n"))
    assert file.header == tuple(names)
    assert blocks[0].cells.shape == (1, 5000)


def test_blocks_are_bounded_and_progress_reaches_the_files_size(tmp_path: Path) -> None:
    path = write(tmp_path, "id,name\n" + "".join(f"{n},name {n}\n" for n in range(50_000)))
    file = CsvFile(path, block_bytes=1 << 16)
    blocks = list(file)
    assert len(blocks) > 10
    assert max(block.cells.height for block in blocks) < 10_000
    progress = [block.read_bytes for block in blocks]
    assert progress == sorted(progress)
    assert progress[0] < progress[-1] == path.stat().st_size == file.size_bytes
    assert lines_of(blocks) == list(range(2, 50_002))
