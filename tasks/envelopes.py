"""Kafka's messages as cells of text, by source: each message a row, or broken for a reason.

Most messages of a batch look like others of it. They are read as columns (`message_shapes`), the
rest one by one (`envelope_json`); both ways say the same of a message, whatever surrounds it.

20,000 messages of 226 bytes with 8 cells took 30 ms of one busy core, `decode_payloads` included:
two thirds of it are Rust's regex (4 ns a byte), a fifth holds Python's lock, most of that to hand
the messages over. One by one they took 270 ms, nearly all of it under the lock.
"""

import datetime as dt
from collections.abc import Sequence

import numpy as np
import polars as pl

from tasks.envelope_json import Broken, parse_envelope, read_message
from tasks.message_shapes import Shape, learn_shape
from tasks.source_messages import LEAST_ALIKE, MessageSorter, SourceMessages

__all__ = ["Broken", "SourceMessages", "decode_envelopes"]

_GAIN = 20
"""A shape that does not fit at least one in so many messages costs more than it saves."""
_MAX_POOR_SHAPES = 4
_MAX_SAMPLES = 8
"""Messages without a shape that are tried before the rest is read one by one."""
_GOLDEN = 0.618034
"""Steps of this length come everywhere in a batch."""


def decode_envelopes(
    values: Sequence[bytes | None], *, now: dt.datetime
) -> tuple[list[SourceMessages], list[Broken]]:
    """Return the messages by the source they name, and those that are broken, each message once.

    values: JSON objects in UTF-8 with the keys `source` (a text), `timestamp` (RFC 3339 with its
    zone, or milliseconds since 1970) and `payload` (an object); what other keys they have is
    passed over. now: the clock; a timestamp more than a day ahead of it is refused. Nothing is
    raised, whatever the messages hold.
    """
    texts = _read_texts(values)
    waiting = pl.DataFrame({"position": np.arange(len(values)), "text": texts})
    unreadable = waiting["position"].filter(texts.is_null())
    sorter = MessageSorter(now)
    waiting = _take_alike(waiting.filter(texts.is_not_null()), values, sorter)
    for position in (*unreadable.to_list(), *waiting["position"].to_list()):
        sorter.take(read_message(position, values[position]))
    return sorter.finish()


def _read_texts(values: Sequence[bytes | None]) -> pl.Series:
    """Return the messages as text, null for those that are no UTF-8."""
    try:
        return pl.Series(values, dtype=pl.Binary).cast(pl.String)
    except pl.exceptions.ComputeError:  # one of them is not
        return pl.Series([_read_text(each) for each in values], dtype=pl.String)


def _read_text(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _take_alike(
    waiting: pl.DataFrame, values: Sequence[bytes | None], sorter: MessageSorter
) -> pl.DataFrame:
    """Sort the messages that are like many others; return those that are not."""
    samples = poor_shapes = 0
    while (
        waiting.height >= LEAST_ALIKE and samples < _MAX_SAMPLES and poor_shapes < _MAX_POOR_SHAPES
    ):
        # From all over the batch: a run of broken messages must not stand for all.
        tried = samples + poor_shapes
        sample = values[waiting["position"][int(tried * _GOLDEN % 1 * waiting.height)]]
        shape = _learn(sample)
        if shape is None:
            samples += 1
            continue
        fits, cells = shape.match(waiting["text"])
        count = int(fits.sum())
        sorter.take_block(shape.source, waiting["position"].filter(fits).to_numpy(), cells)
        poor_shapes += count * _GAIN < waiting.height
        waiting = waiting.filter(~fits)
    return waiting


def _learn(value: bytes | None) -> Shape | None:
    if value is None or isinstance(read_message(0, value), Broken):
        return None
    return learn_shape(parse_envelope(value), value.decode())
