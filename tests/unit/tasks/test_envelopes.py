"""Every message is a row or broken for a reason, whatever it holds and whatever surrounds it."""

import datetime as dt
import hashlib
import json
import random
import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tasks import envelopes
from tasks.envelopes import decode_envelopes
from tasks.extract_frame import from_records
from tasks.json_records import STEP, Number, read_json, write_json

NOW = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)
TIME = "2026-11-23T07:51:28.123456Z"
VERSION = dt.datetime(2026, 11, 23, 7, 51, 28, 123456, tzinfo=dt.UTC)
COMPANY = 50
"""So many messages that look alike are read as columns."""

Verdict = tuple[Any, ...]


def message(payload: object, source: str = "sales_data", time: object = TIME) -> bytes:
    envelope = {"source": source, "timestamp": time, "payload": payload}
    return json.dumps(envelope, ensure_ascii=False).encode()


def around(payload: str) -> bytes:
    return b'{"source":"sales_data","timestamp":"%b","payload":%b}' % (
        TIME.encode(),
        payload.encode(),
    )


ORDINARY = [message({"order_id": number, "channel": "web"}) for number in range(COMPANY)]


def read(values: Sequence[bytes | None]) -> list[Verdict]:
    """Return what is said of each: ("row", source, version, cells) or ("broken", reason, ...)."""
    whole, broken = decode_envelopes(values, now=NOW)
    said: dict[int, Verdict] = {
        each.position: ("broken", str(each.reason), each.detail, each.source) for each in broken
    }
    assert [each.position for each in broken] == sorted(said)
    rows = 0
    for part in whole:
        versions = dict(zip(part.positions.tolist(), part.versions.to_list(), strict=True))
        assert list(versions) == sorted(versions)
        cells = {
            position: row
            for block in part.blocks
            for position, row in zip(
                block.positions.tolist(), block.cells.iter_rows(named=True), strict=True
            )
        }
        cells |= {
            each.position: dict(zip(each.header, each.texts, strict=True)) for each in part.singles
        }
        assert cells.keys() == versions.keys()
        rows += sum(len(each.positions) for each in part.blocks) + len(part.singles)
        said |= {
            position: ("row", part.source, version, cells[position])
            for position, version in versions.items()
        }
    assert rows + len(broken) == len(values)
    return [said[position] for position in range(len(values))]


def judge(value: bytes | None) -> Verdict:
    """Return the one verdict on a message: alone, among others, and among its like."""
    [alone] = read([value])
    among = [*ORDINARY, value, *ORDINARY]
    said = read(among)
    assert said[COMPANY] == alone
    assert said[:COMPANY] == said[COMPANY + 1 :] == ROWS
    assert read([value] * COMPANY) == [alone] * COMPANY
    return alone


def cells_of(payload: str) -> dict[str, str | None]:
    kind, source, version, cells = judge(around(payload))
    assert (kind, source, version) == ("row", "sales_data", VERSION)
    return dict(cells)


ROWS = [
    ("row", "sales_data", VERSION, {"order_id": str(number), "channel": "web"})
    for number in range(COMPANY)
]
BROKEN = {
    "tombstone": (None, "tombstone", None),
    "empty": (b"", "empty", None),
    "blanks": (b" \t\r\n ", "empty", None),
    "mark alone": (b"\xef\xbb\xbf", "empty", None),
    "null": (b"null", "not_an_object", None),
    "array": (b'[{"source":"a"}]', "not_an_object", None),
    "text": (b'"sales_data"', "not_an_object", None),
    "number": (b"1", "not_an_object", None),
    "no JSON": (b"order 7", "invalid_json", None),
    "cut off": (ORDINARY[0][:-1], "invalid_json", "sales_data"),
    "garbage behind": (ORDINARY[0] + b"x", "invalid_json", "sales_data"),
    "two documents": (ORDINARY[0] * 2, "invalid_json", "sales_data"),
    "two lines": (ORDINARY[0] + b"\n" + ORDINARY[1], "invalid_json", "sales_data"),
    "a raw line feed": (around('{"a":"x\ny"}'), "invalid_json", "sales_data"),
    "a raw NUL": (around('{"a":"x\0y"}'), "invalid_json", "sales_data"),
    "a comment": (around('{"a":1}/**/'), "invalid_json", "sales_data"),
    "single quotes": (around("{'a':1}"), "invalid_json", "sales_data"),
    "a leading zero": (around('{"a":01}'), "invalid_json", "sales_data"),
    "a plus": (around('{"a":+1}'), "invalid_json", "sales_data"),
    "a point": (around('{"a":1.}'), "invalid_json", "sales_data"),
    "a bad escape": (around('{"a":"\\x41"}'), "invalid_json", "sales_data"),
    "a short escape": (around('{"a":"\\u12"}'), "invalid_json", "sales_data"),
    "a comma too many": (around('{"a":1,}'), "invalid_json", "sales_data"),
    "UTF-16": (ORDINARY[0].decode().encode("utf-16"), "invalid_utf8", None),
    "a bad byte in front": (b"\xff" + ORDINARY[0], "invalid_utf8", None),
    "a bad byte in a value": (
        around('{"a":"?"}').replace(b"?", b"\xff"),
        "invalid_utf8",
        "sales_data",
    ),
    "a bad byte in a key": (around('{"?":1}').replace(b"?", b"\xc3"), "invalid_utf8", "sales_data"),
    "a raw half of a pair": (
        around('{"a":"?"}').replace(b"?", b"\xed\xa0\x80"),
        "invalid_utf8",
        "sales_data",
    ),
    "1,000 lists": (around('{"a":' + "[" * 1_000 + "]" * 1_000 + "}"), "too_deep", "sales_data"),
    "100,000 lists": (
        around('{"a":' + "[" * 100_000 + "]" * 100_000 + "}"),
        "too_deep",
        "sales_data",
    ),
    "65 objects": (around('{"a":' * 65 + "1" + "}" * 65), "too_deep", "sales_data"),
    "1,000 objects": (around('{"a":' * 1_000 + "1" + "}" * 1_000), "too_deep", "sales_data"),
    "100,000 objects": (around('{"a":' * 100_000 + "1" + "}" * 100_000), "too_deep", "sales_data"),
    "100,000 brackets": (b"[" * 100_000, "too_deep", None),
    "a key twice": (around('{"a":1,"a":1}'), "ambiguous_key", "sales_data"),
    "with blanks": (around('{"a" :1,"a"\t: 2}'), "ambiguous_key", "sales_data"),
    "with an escape": (around('{"a":1,"\\u0061":2}'), "ambiguous_key", "sales_data"),
    "within an object": (around('{"b":{"a":1,"a":2}}'), "ambiguous_key", "sales_data"),
    "within a list": (around('{"b":[{"a":1,"a":2}]}'), "ambiguous_key", "sales_data"),
    "a source twice": (
        b'{"source":"a","source":"b","timestamp":"%b","payload":{}}' % TIME.encode(),
        "ambiguous_key",
        "a",
    ),
    "a payload twice": (ORDINARY[0][:-1] + b',"payload":{}}', "ambiguous_key", "sales_data"),
    "no source": (b'{"timestamp":"%b","payload":{}}' % TIME.encode(), "no_source", None),
    "null for a source": (message({}, source=None), "no_source", None),  # type: ignore[arg-type] # what is not text
    "an empty source": (message({}, source=""), "no_source", None),
    "a blank source": (message({}, source="  "), "no_source", None),
    "a number for a source": (message({}, source=7), "no_source", None),  # type: ignore[arg-type] # likewise
    "a list for a source": (message({}, source=["a"]), "no_source", None),  # type: ignore[arg-type] # likewise
    "a long source": (message({}, source="s" * 201), "bad_source", None),
    "a source in no UTF-8": (b'{"source":"\xff"}', "invalid_utf8", None),
    "a very long source": (message({}, source="s" * 1_000_000), "bad_source", None),
    "a NUL in the source": (message({}, source="s\0"), "bad_source", None),
    "a line feed in it": (message({}, source="s\n"), "bad_source", None),
    "half a character in it": (
        b'{"source":"\\ud83d","timestamp":"%b","payload":{}}' % TIME.encode(),
        "bad_source",
        None,
    ),
    "no payload": (b'{"source":"s","timestamp":"%b"}' % TIME.encode(), "no_payload", "s"),
    "null for a payload": (around("null"), "no_payload", "sales_data"),
    "a list for a payload": (around("[]"), "payload_not_an_object", "sales_data"),
    "a text for a payload": (around('"{}"'), "payload_not_an_object", "sales_data"),
    "NaN for a payload": (around("NaN"), "payload_not_an_object", "sales_data"),
    "no timestamp": (b'{"source":"s","payload":{"a":1}}', "no_timestamp", "s"),
    "null for a timestamp": (message({"a": 1}, time=None), "no_timestamp", "sales_data"),
    "true for a timestamp": (message({"a": 1}, time=True), "bad_timestamp", "sales_data"),
    "an object for one": (message({"a": 1}, time={"$date": 1}), "bad_timestamp", "sales_data"),
    "a list for one": (message({"a": 1}, time=[TIME]), "bad_timestamp", "sales_data"),
    "an empty timestamp": (message({"a": 1}, time=""), "bad_timestamp", "sales_data"),
    "NaN for a timestamp": (message({"a": 1}, time=float("nan")), "bad_timestamp", "sales_data"),
    "a date alone": (message({"a": 1}, time="2026-11-23"), "bad_timestamp", "sales_data"),
    "half a character for one": (
        b'{"source":"s","timestamp":"\\ud83d","payload":{"a":1}}',
        "bad_timestamp",
        "s",
    ),
    "tomorrow": (
        message({"a": 1}, time="2026-11-24T12:00:00.000001Z"),
        "timestamp_in_future",
        "sales_data",
    ),
    "a NUL in a value": (around('{"a":"x\\u0000y"}'), "nul_character", "sales_data"),
    "a NUL in a nested value": (
        around('{"b":{"a":"\\u0000"},"c":1}'),
        "nul_character",
        "sales_data",
    ),
}


@pytest.mark.parametrize(("value", "reason", "source"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_message_says_why_and_nothing_happens_to_the_others(value, reason, source) -> None:
    kind, *said = judge(value)
    assert (kind, said[0], said[2]) == ("broken", reason, source)
    assert len(said[1]) < 300


@pytest.mark.parametrize("value", [None, *(each for each, *_ in BROKEN.values())], ids=repr)
def test_a_broken_message_names_no_value_of_its_payload(value) -> None:
    hidden = b"S3CRET"
    spoilt = (value or b"").replace(b'"web"', b'"S3CRET"').replace(b'"x', b'"S3CRET')
    kind, *said = read([spoilt])[0]
    assert kind == "row" or hidden.decode() not in f"{said[1]}{said[2]}"


@pytest.mark.parametrize(
    "number",
    ["0", "-0", "1.10", "1e400", "1E+2", "-1.5e-7", "9" * 400, f"0.{'1' * 400}", "9" * 38],
)
def test_numbers_stay_digit_for_digit(number) -> None:
    assert cells_of(f'{{"n":{number},"b":[{number}]}}') == {"n": number, "b": f"[{number}]"}
    assert cells_of(f'{{"n":{number},"b":{{"c":{number}}}}}') == {"n": number, "b_c": number}


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_what_python_writes_for_no_number_is_kept_as_its_word(word) -> None:
    assert cells_of(f'{{"n":{word}}}') == {"n": word}


@pytest.mark.parametrize(
    ("written", "cell"),
    [
        ("null", None),
        ('"null"', "null"),
        ('""', None),
        ('" "', " "),
        ("true", "true"),
        ("false", "false"),
        ('"true"', "true"),
        (r'"\""', '"'),
        (r'"\"quoted\""', '"quoted"'),
        (r'"\\"', "\\"),
        (r'"\/\b\f\n\r\t"', "/\b\f\n\r\t"),
        (r'"\u00e9\ud83d\ude00"', "é😀"),
        ('"é😀\x7f\u2028"', "é😀\x7f\u2028"),
        (r'"\ud83d"', r"\ud83d"),
        (r'"\ude00\ud83d"', r"\ude00\ud83d"),
        ("[]", "[]"),
        ("[ 1.10 , null , {} ]", "[1.10,null,{}]"),
        (r'["\u0000é"]', r'["\u0000é"]'),
        ('[{"a":[1e5]}]', '[{"a":[1e5]}]'),
        ("[" * 63 + "]" * 63, "[" * 63 + "]" * 63),
        (f'"{"x" * 1_000_000}"', "x" * 1_000_000),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_values_are_cells_as_they_are_of_an_api_s_record(written, cell) -> None:
    assert cells_of(f'{{"a":{written},"b":1}}') == {"a": cell, "b": "1"}
    assert cells_of(f'{{"b":1,"c":{{"a":{written}}}}}') == {"b": "1", "c_a": cell}


@pytest.mark.parametrize(
    ("payload", "cells"),
    [
        ("{}", {}),
        ('{"a":{},"b":{"c":{}}}', {}),
        ('{"a":{},"b":1}', {"b": "1"}),
        ('{ "a" : { "b" : { "c" : 1 } } ,\n\t"d" : 2 }', {"d": "2", "a_b_c": "1"}),
        ('{"A":1,"a":2,"b":{"C D":3}}', {"a": "1", "a_2": "2", "b_c_d": "3"}),
        ('{"a_b":1,"a":{"b":2}}', {"a_b": "1", "a_b_2": "2"}),
        ('{"":1,"?":2}', {"unnamed": "1", "_": "2"}),
        (r'{"\u0061":1,"b\"":2}', {"a": "1", "b_": "2"}),
        (r'{"a\u0000b":1,"\ud83d":2}', {"a_b": "1", "_ud83d": "2"}),
        ('{"é":1,"naïve":{"ÄÖ":2}}', {"é": "1", "naïve_äö": "2"}),
        ('{"a.b*[c]":1,"(":2}', {"a_b_c_": "1", "_": "2"}),
        ('{"a' + "x" * 5_000 + '":1}', {"a" + "x" * 5_000: "1"}),
        ('{"a":' * 64 + "{}" + "}" * 64, {}),
        ('{"a":' * 65 + "{}" + "}" * 65, None),
        ('{"a":' * 63 + '{"b":1}' + "}" * 63, {"a_" * 63 + "b": "1"}),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_objects_are_flattened_and_their_keys_are_names(payload, cells) -> None:
    if cells is None:
        assert judge(around(payload))[1] == "too_deep"
    else:
        assert list(cells_of(payload).items()) == list(cells.items())


def test_ten_thousand_keys_are_ten_thousand_cells() -> None:
    # The arrows are no letters: they all come to the same name.
    arrows = ["".join(chr(0x2190 + int(each)) for each in str(number)) for number in range(10_000)]
    for names in ([f"key {number}" for number in range(10_000)], arrows):
        value = around(json.dumps(dict.fromkeys(names, 1)))
        [alone] = read([value])
        assert len(alone[3]) == 10_000
        assert read([*ORDINARY, value, *ORDINARY]) == [*ROWS, alone, *ROWS]
    assert list(alone[3]) == ["_", *(f"__{number}" for number in range(2, 10_001))]
    # Polars makes a frame of the first thousand columns of an iterator.
    wide = around(json.dumps({f"key {number}": number for number in range(1_500)}))
    assert read([wide] * COMPANY) == read([wide]) * COMPANY


def test_a_mark_before_the_text_and_blanks_around_it_are_no_part_of_it() -> None:
    plain = judge(ORDINARY[0])
    assert judge(b"\xef\xbb\xbf" + ORDINARY[0]) == plain
    assert judge(b" \r\n\t" + ORDINARY[0] + b"\n") == plain


def test_other_keys_of_an_envelope_are_passed_over_wherever_they_stand() -> None:
    value = (
        '{"v":1,"trace":{"id":"x","of":{"a":null}},"payload":{"a":1},"source":"sales_data",'
        f'"n":null,"timestamp":"{TIME}","tags":TAGS}}'
    )
    for tags in ("[1,[2]]", "{}", '"x"'):
        given = value.replace("TAGS", tags).encode()
        assert judge(given) == ("row", "sales_data", VERSION, {"a": "1"})


@pytest.mark.parametrize("source", ["a b", "é😀", "'; DROP TABLE x; --", "SALES_DATA", "s" * 200])
def test_a_source_of_any_other_kind_is_kept_as_it_is(source) -> None:
    assert judge(message({"a": 1}, source=source))[1] == source
    escaped = json.dumps({"source": source, "timestamp": TIME, "payload": {"a": 1}}).encode()
    assert judge(escaped)[1] == source


def test_no_message_at_all_is_nothing() -> None:
    assert decode_envelopes([], now=NOW) == ([], [])


def test_sources_and_shapes_of_all_kinds_can_come_mixed() -> None:
    kinds: list[Any] = [
        {"order_id": 1, "channel": "web"},
        {"channel": None, "order_id": "1"},
        {"order_id": 1.5},
        {"order_id": 1, "tags": ["a"]},
        {"customer": {"name": 'Zoë "Z"', "geo": {"lat": -1.0}}, "order_id": 2},
        {f"column {number}": number for number in range(300)},
        {f"column {number}": f"text {number}" for number in range(40)},
    ]
    values = [
        message(kind, source=source, time=time)
        for kind in kinds
        for source in ("sales_data", "customers", "é")
        for time in (TIME, 1_763_884_288_123, "nonsense")
    ]
    said = {value: read([value])[0] for value in values}
    assert sum(each[0] == "row" for each in said.values()) == len(kinds) * 6
    batch = values * 40
    random.Random(7).shuffle(batch)  # noqa: S311 - any order
    assert read(batch) == [said[value] for value in batch]


def test_only_suspicious_messages_are_read_one_by_one(monkeypatch) -> None:
    one_by_one = []
    by_itself = envelopes.read_message

    def count(position, value):
        one_by_one.append(position)
        return by_itself(position, value)

    monkeypatch.setattr(envelopes, "read_message", count)
    broken = [value for value, reason, _ in BROKEN.values() if reason != "tombstone"]
    values = [*broken, *(message({"order_id": each, "channel": "web"}) for each in range(5_000))]
    assert [each[0] for each in read(values)].count("row") == 5_000
    # Those, and some that patterns were made from.
    assert len(one_by_one) <= len(broken) + 20
    one_by_one.clear()
    wide = [message({f"column_{number}": each for number in range(100)}) for each in range(500)]
    nested = [message({"id": each, "geo": {"lat": "1\n"}, "name": None}) for each in range(500)]
    read([*wide, *nested])
    assert len(one_by_one) <= 20


numbers = st.from_regex(
    r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,4})?", fullmatch=True
).map(Number)
texts = st.text(st.characters(), max_size=8) | st.sampled_from(
    ["null", "1", '"', "\\", "\ud800", ""]
)
scalars = st.none() | st.booleans() | numbers | texts
keys = st.text(st.characters(exclude_characters=STEP), max_size=4) | st.sampled_from("aAbB")
records = st.dictionaries(
    keys,
    st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
        max_leaves=6,
    ),
    max_size=6,
)


def spell(payload: object, style: int) -> str:
    """Return the payload's JSON, its numbers as they are; with escapes and blanks, or without."""
    text = write_json(payload)
    if style & 1:
        text = re.sub(r"[^\x00-\x7f]", lambda found: json.dumps(found[0])[1:-1], text)
    else:
        text = re.sub("[\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text)
    # A colon or comma behind a quote or bracket stands within a text, or between two parts.
    return re.sub(r'^\{"', '{ \t"', text) if style & 2 else text


def as_api_record(text: str) -> Verdict:
    """Return the verdict that the batch path has on the same record."""
    source = from_records((read_json(text),), modified_at=NOW, sha256=SHA256, header=())
    blocks = list(source)
    rows = [row for block in blocks for row in block.cells.iter_rows(named=True)]
    if rows:
        return ("row", "sales_data", VERSION, rows[0])
    [reason] = [each.reason for block in blocks for each in block.broken]
    return ("row", "sales_data", VERSION, {}) if reason == "empty_object" else ("broken", reason)


SHA256 = hashlib.sha256().hexdigest()


def has_clashes(record: dict[str, Any]) -> bool:
    """Return whether pandas would let two values overwrite each other: `{"": {"a": 1}, "a": 2}`."""
    inner = record.get("")
    return isinstance(inner, dict)


@given(record=records, style=st.integers(0, 3))
@settings(deadline=None)
def test_cells_are_those_of_the_batch_path_alone_and_among_their_like(record, style) -> None:
    assume(not has_clashes(record))
    text = spell(record, style)
    [alone] = read([around(text)])
    expected = as_api_record(text)
    if expected[0] == "broken":
        assert (expected[1], alone[1]) == ("nul_byte", "nul_character")
    else:
        assert alone == expected
        assert list(alone[3]) == list(expected[3])
    assert read([around(text)] * COMPANY) == [alone] * COMPANY


@given(
    names=st.lists(keys, min_size=1, max_size=5, unique=True),
    data=st.data(),
    style=st.integers(0, 3),
)
@settings(deadline=None)
def test_messages_with_the_same_keys_say_the_same_together_as_alone(names, data, style) -> None:
    rows = st.tuples(*(scalars for _ in names))
    drawn = data.draw(st.lists(rows, min_size=2, max_size=6))
    values = [around(spell(dict(zip(names, row, strict=True)), style)) for row in drawn]
    alone = [read([value])[0] for value in values]
    assert read(values * COMPANY) == alone * COMPANY


MUTATIONS = [
    *(bytes([each]) for each in b'"\\{}[],:0-.e \n\t\x00\x7f\xff'),
    *(b"null", b"true", b"NaN", b'"a":1,', b'"b"', b"\\u0000", b"\\u0061", b"\\ud800", b'\\"'),
    *(b"E+5", b"01", "é".encode(), b"\xed\xa0\x80", b"\xef\xbb\xbf", b"+01:00", b"2026"),
]
ORIGINALS = [
    around('{"a":1,"b":"x","c":null,"d":true,"e":-1.5e+3}'),
    around('{"a":"","b":{"c":"\\u00e9\\n\\ud83d","d":{}},"e":"é"}'),
    b'{"payload":{"a":"1","A":2},"timestamp":1763884288123,"x":{"y":"1"},"source":"s"}',
    message({f"k{number}": number if number % 3 else 't"' for number in range(40)}),
]


@given(
    original=st.sampled_from(ORIGINALS),
    changes=st.lists(
        st.lists(
            st.tuples(st.floats(0, 1), st.integers(0, 3), st.sampled_from([b"", *MUTATIONS])),
            min_size=1,
            max_size=3,
        ),
        min_size=1,
        max_size=20,
    ),
)
@settings(deadline=None)
def test_a_message_with_bytes_changed_is_judged_as_if_it_were_alone(original, changes) -> None:
    values = []
    for each in changes:
        value = original
        for place, length, bits in each:
            start = int(place * len(value))
            value = value[:start] + bits + value[start + length :]
        values.append(value)
    alone = [read([value])[0] for value in values]
    assert read([*[original] * COMPANY, *values])[COMPANY:] == alone
