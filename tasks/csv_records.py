"""Where each record of a CSV text begins and ends, on which line, and which are malformed.

The grammar is RFC 4180 with three allowances: LF, CR and CRLF all end a line, spaces may follow
a closing quote, and a quote inside an unquoted field is text. A field that begins with a quote
and is no quoted field is a fault of its line alone: the next line is read as if nothing was.
"""

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.csv_text import find_line_end

MAX_QUOTED_BYTES = 16 << 20
"""A quote that stays open for longer was never meant to open."""
MIN_PLAIN_BYTES = 4096
LINE_END = re.compile(rb"\r\n|\r|\n")
QUOTED = re.compile(rb'"[^"]*+(?:""[^"]*+)*+"')
LF, CR, QUOTE = 10, 13, 34

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a record cannot be split into cells: a rule's short name, and a clause for a person."""

    reason: str
    detail: str


@dataclass(slots=True)
class Records:
    """The records of a piece of text, blank lines left out: offsets, and 1-based first lines."""

    starts: Integers
    ends: Integers
    lines: Integers
    faults: dict[int, Fault] = field(default_factory=dict)

    def find(self, offset: int) -> int:
        """Return the index of the record that holds this offset."""
        return int(np.searchsorted(self.starts, offset, side="right")) - 1

    def shift(self, offset: int) -> list[tuple[int, int, int]]:
        """Return start, end and line of each record, in a text that has `offset` bytes before."""
        columns = (self.starts + offset, self.ends + offset, self.lines)
        return list(zip(*(each.tolist() for each in columns), strict=True))


@dataclass(slots=True)
class Piece:
    """Complete records, as one run of text: `data[:cut]`."""

    data: bytes
    cut: int
    first_line: int
    known: Records | None = None
    line_ends: int | None = None

    def count_lines(self) -> int:
        """Return how many line ends the piece holds; counted once."""
        if self.line_ends is None:
            # Five times as fast as bytes.count where there are many.
            view = np.frombuffer(self.data, dtype=np.uint8, count=self.cut)
            feeds = int(np.count_nonzero(view == LF))
            self.line_ends = feeds + _count_lone_returns(self.data, 0, self.cut)
        return self.line_ends

    def locate(self) -> Records:
        """Return the piece's records; found once, when first asked for."""
        if self.known is None:
            self.known = _locate(self.data, self.cut, self.first_line)
        return self.known


class Grammar:
    """The rules for one delimiter."""

    def __init__(self, delimiter: str) -> None:
        """Compile the rules."""
        mark = re.escape(delimiter.encode())
        edge = rb"(?=[" + mark + rb"\r\n]|\Z)"
        cell = (
            rb"(?:" + QUOTED.pattern + rb"\x20*+" + edge
            + rb'|[^"' + mark + rb"\r\n][^" + mark + rb"\r\n]*+|" + edge + rb")"
        )  # fmt: skip
        self._cell = re.compile(cell)
        self._record = re.compile(
            cell + rb"(?:" + mark + cell + rb")*+(?P<end>\r\n|\r|\n|\Z)",
        )
        self._mark = ord(delimiter)
        self._edges = np.zeros(256, dtype=np.bool_)
        self._edges[[LF, CR, self._mark]] = True

    def take(self, data: bytes, *, first_line: int, at_end: bool) -> Piece:
        """Return the complete records at the front of `data`; `cut` is 0 if there is not one."""
        cut = self._cut_fast(data, at_end=at_end)
        if cut:
            return Piece(data, cut, first_line)
        return self.split(data, first_line=first_line, at_end=at_end)

    def split(
        self, data: bytes, *, first_line: int = 1, at_end: bool, most: int | None = None
    ) -> Piece:
        """Return the complete records at the front, found one by one, the malformed ones too."""
        spans: list[tuple[int, int, int]] = []
        faults: dict[int, Fault] = {}
        start, line, quote = 0, first_line, -1
        while start < len(data) and len(spans) != most:
            if quote < start:
                quote = data.find(b'"', start) % (len(data) + 1)
            if most is None and quote - start >= MIN_PLAIN_BYTES:
                # Without a quote every line is a record, which needs no looking at one by one.
                cut = find_line_end(data[start:quote])
                if cut:
                    plain = Piece(data[start : start + cut], cut, line)
                    spans += plain.locate().shift(start)
                    line += plain.count_lines()
                    start += cut
                    continue
            found = self._record.match(data, start)
            if found and found.end() - start <= MAX_QUOTED_BYTES:
                stop, after, fault = found.start("end"), found.end(), None
            else:
                outcome = self._examine(data, start, at_end=at_end)
                if outcome is None:
                    break
                stop, after, fault = outcome
            if after == len(data) and not at_end and not data.endswith(b"\n"):
                break
            if fault:
                faults[len(spans)] = fault
            if stop > start:
                spans.append((start, stop, line))
            line += _count_lines(data, start, after)
            start = after
        table: Integers = np.array(spans, dtype=np.int64).reshape(-1, 3)
        records = Records(table[:, 0], table[:, 1], table[:, 2], faults)
        return Piece(data, start, first_line, records)

    def read_cells(self, record: bytes) -> list[str]:
        """Return the cells of one well-formed record."""
        cells: list[str] = []
        place = 0
        while found := self._cell.match(record, place):
            cell = found[0]
            if cell.startswith(b'"'):
                inner, _, after = cell[1:].rpartition(b'"')
                cell = inner.replace(b'""', b'"') + after
            cells.append(cell.decode())
            place = found.end() + 1
            if found.end() == len(record):
                break
        return cells

    def _cut_fast(self, data: bytes, *, at_end: bool) -> int:
        """Return the end of the last record if every quote stands where it should, else 0."""
        if b'"' not in data:
            return len(data) if at_end else find_line_end(data)
        if len(data) > MAX_QUOTED_BYTES:
            return 0
        view = np.frombuffer(data, dtype=np.uint8)
        quotes = np.flatnonzero(view == QUOTE)
        cut = len(data) if at_end else data.rfind(b"\n") + 1
        count = int(np.searchsorted(quotes, cut))
        if count % 2 and not at_end:
            feeds = np.flatnonzero(view == LF)
            outside = feeds[np.searchsorted(quotes, feeds) % 2 == 0]
            cut = int(outside[-1]) + 1 if outside.size else 0
            count = int(np.searchsorted(quotes, cut))
        if not cut or count % 2 or not self._is_well_formed(view, quotes[:count]):
            return 0
        return cut

    def _is_well_formed(self, view: npt.NDArray[np.uint8], quotes: npt.NDArray[Any]) -> bool:
        """Tell whether quotes that open and close by turns do so at the edges of cells.

        A doubled quote closes and opens again with nothing between.
        """
        opening, closing = quotes[::2], quotes[1::2]
        doubled = opening[1:] == closing[:-1] + 1
        # At the text's edges any index will do, if it is overruled afterwards.
        opens = self._edges[view[opening - 1]]
        closes = self._edges[view[np.minimum(closing + 1, len(view) - 1)]]
        opens[1:] |= doubled
        closes[:-1] |= doubled
        if quotes.size:
            opens[0] |= opening[0] == 0
            closes[-1] |= closing[-1] == len(view) - 1
        return bool(opens.all() and closes.all())

    def _examine(
        self, data: bytes, start: int, *, at_end: bool
    ) -> tuple[int, int, Fault | None] | None:
        """Return a record's end, the next one's start and the fault; None: more text decides."""
        place = start
        while found := self._cell.match(data, place):
            if found[0].startswith(b'"') and found.end() - place > MAX_QUOTED_BYTES:
                break
            place = found.end() + 1
            if found.end() == len(data) or data[found.end()] != self._mark:
                ended = LINE_END.match(data, found.end())
                return found.end(), ended.end() if ended else len(data), None
        quoted = QUOTED.match(data, place)
        if quoted and quoted.end() - place > MAX_QUOTED_BYTES:
            quoted = None
        elif not quoted and not at_end and len(data) - place <= MAX_QUOTED_BYTES:
            return None
        if quoted and not LINE_END.search(quoted[0]):
            fault = Fault("stray_quote", "has text after the closing quote of a field")
        else:
            fault = Fault("unterminated_quote", "opens a quote that is never properly closed")
        ended = LINE_END.search(data, place)
        if ended:
            return ended.start(), ended.end(), fault
        return (len(data), len(data), fault) if at_end else None


def _count_lines(data: bytes, start: int, stop: int) -> int:
    return data.count(b"\n", start, stop) + _count_lone_returns(data, start, stop)


def _count_lone_returns(data: bytes, start: int, stop: int) -> int:
    returns = data.count(b"\r", start, stop)
    return returns - data.count(b"\r\n", start, stop) if returns else 0


def _locate(data: bytes, cut: int, first_line: int) -> Records:
    """Find the records of well-formed text by its line ends outside quotes."""
    view = np.frombuffer(data, dtype=np.uint8, count=cut)
    breaks = np.flatnonzero(view == LF)
    has_returns = data.find(b"\r", 0, cut) >= 0
    if has_returns:
        returns = np.flatnonzero(view == CR)
        follow = view[np.minimum(returns + 1, cut - 1)]
        breaks = np.sort(np.concatenate((breaks, returns[follow != LF])))
    outside, passed = breaks, np.arange(1, breaks.size + 1)
    if data.find(b'"', 0, cut) >= 0:
        quotes = np.flatnonzero(view == QUOTE)
        kept = np.flatnonzero(np.searchsorted(quotes, breaks) % 2 == 0)
        outside, passed = breaks[kept], kept + 1
    starts = np.concatenate(([0], outside + 1))
    ends = np.concatenate((outside, [cut]))
    lines = np.concatenate(([0], passed)) + first_line
    if has_returns:
        ends[:-1] -= (view[outside] == LF) & (outside > 0) & (view[outside - 1] == CR)
    filled = ends > starts
    return Records(starts[filled], ends[filled], lines[filled])
