"""The text of a CSV file as UTF-8 bytes, whatever it was written in; every byte is verified."""

import codecs
import re
from collections.abc import Callable

import numpy as np

from schemas.errors import RefusedError
from tasks.csv_signature import describe_binary
from tasks.csv_source import SourceFile

SAMPLE_BYTES = 1 << 16
MAX_LINE_BYTES = 64 << 20
"""A line has to be held whole; a longer one is no line of text."""
BYTE_ORDER_MARKS = (
    # UTF-32 first: its little-endian mark begins with that of UTF-16.
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
LF, CR, MAX_ASCII = 10, 13, 127
ANY_UTF8 = re.compile(rb"[\xc2-\xf4][\x80-\xbf]")
"""How every character of UTF-8 beyond ASCII begins."""
DEFINED = bytes(set(range(256)) - {0x81, 0x8D, 0x8F, 0x90, 0x9D})
"""The bytes that are characters in Windows-1252."""
NUL_SHARE = 0.25
"""Western text in UTF-16 has a NUL in nearly every unit, other scripts at least in digits,
separators and line ends."""
UNREADABLE = "\ud800"
"""Stands for bytes that are no character until their place is noted; no decoder yields it."""


def _mark(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return UNREADABLE, error.end


def _keep_as_control(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("latin-1"), error.end


codecs.register_error("sluiceway.mark", _mark)
codecs.register_error("sluiceway.control", _keep_as_control)


def find_encoding(sample: bytes) -> tuple[str, int]:
    """Return the encoding that the first bytes show, and how many bytes its mark takes.

    Without a mark it is UTF-16 where NUL bytes stand as they do in no other text, else UTF-8.
    """
    for mark, encoding in BYTE_ORDER_MARKS:
        if sample.startswith(mark):
            return encoding, len(mark)
    units = len(sample) // 2
    high, low = sample[: units * 2 : 2].count(0), sample[1 : units * 2 : 2].count(0)
    if units and max(high, low) >= NUL_SHARE * units and min(high, low) * 20 <= max(high, low):
        if low > high and sample[1] == 0:
            return "utf-16-le", 0
        if high > low and sample[0] == 0:
            return "utf-16-be", 0
    return "utf-8", 0


def find_line_end(data: bytes) -> int:
    """Return the place after the last line end that is sure to be one, or 0.

    A carriage return as the very last byte is not: a line feed may follow it.
    """
    feed = data.rfind(b"\n") + 1
    return max(feed, data.rfind(b"\r", feed, max(len(data) - 1, 0)) + 1)


class DecodedText:
    """The file's text as UTF-8 without a byte order mark.

    A line that is not UTF-8 in a file that should be is read as Windows-1252 and counted. A line
    with bytes that are no character at all keeps a stand-in, and its place in `unreadable`.
    """

    def __init__(self, source: SourceFile) -> None:
        """Look at the first bytes for the encoding; raises RefusedError if they are no text."""
        self._source = source
        sample = source.read(SAMPLE_BYTES)
        self.encoding, mark = find_encoding(sample)
        if what := describe_binary(sample, self.encoding):
            message = f"{source.path} is {what}, no CSV text; export it as CSV or move it away."
            raise RefusedError(message)
        self._held = sample[mark:]
        self._ahead = b""
        self._offset = 0
        self._ended = False
        self.lines_in_windows_1252 = 0
        self.unreadable: list[int] = []
        """Offsets into the decoded text, ascending, each on a line that cannot be decoded."""
        self._decode: Callable[[bytes], bytes] = self._check_utf8
        if self.encoding != "utf-8":
            self._wide = codecs.getincrementaldecoder(self.encoding)("sluiceway.mark")
            self._decode = self._recode

    def read(self, size: int) -> bytes:
        """Return about `size` bytes of UTF-8 text, none only at the end."""
        if self._ahead:
            text, self._ahead = self._ahead[:size], self._ahead[size:]
            return text
        while not self._ended:
            chunk = self._source.read(max(size, 1))
            self._ended = not chunk
            # A long line is joined a few times only: each read is as long as what is held.
            self._held += chunk
            size = max(size, len(self._held))
            # A character never spans a line end, and Windows-1252 is decided line by line.
            cut = len(self._held)
            if not self._ended and self.encoding == "utf-8":
                cut = find_line_end(self._held)
                if not cut and len(self._held) > MAX_LINE_BYTES:
                    message = (
                        f"{self._source.path} has a line of more than {MAX_LINE_BYTES >> 20} MB; "
                        "it cannot be a CSV file, or its line ends were lost: export it again."
                    )
                    raise RefusedError(message)
            whole, self._held = self._held[:cut], self._held[cut:]
            text = self._decode(whole)
            self._offset += len(text)
            if text:
                return text
        return b""

    def put_back(self, text: bytes) -> None:
        """Leave the text to be read again; it must be the end of what was read."""
        self._ahead = text + self._ahead

    def _check_utf8(self, text: bytes) -> bytes:
        if text.isascii():
            return text
        try:
            text.decode()
        except UnicodeDecodeError:
            return self._mend(text)
        return text

    def _mend(self, text: bytes) -> bytes:
        if not ANY_UTF8.search(text) and not text.translate(None, DEFINED):
            # No byte beyond ASCII is UTF-8: every line that has one is Windows-1252.
            view = np.frombuffer(text, dtype=np.uint8)
            ends = np.flatnonzero((view == LF) | (view == CR))
            lines = np.searchsorted(ends, np.flatnonzero(view > MAX_ASCII))
            self.lines_in_windows_1252 += int(np.count_nonzero(np.diff(lines, prepend=-1)))
            return text.decode("cp1252").encode()
        mended = bytearray()
        for line in text.splitlines(keepends=True):
            try:
                line.decode()
                mended += line
            except UnicodeDecodeError:
                self.lines_in_windows_1252 += 1
                decoded = line.decode("cp1252", errors="surrogateescape")
                try:
                    mended += decoded.encode()
                except UnicodeEncodeError:
                    # As browsers do: an undefined byte becomes the control character of its
                    # number, so that nothing of the line is lost in quarantine.
                    self.unreadable.append(self._offset + len(mended))
                    mended += line.decode("cp1252", errors="sluiceway.control").encode()
        return bytes(mended)

    def _recode(self, text: bytes) -> bytes:
        decoded = self._wide.decode(text, final=self._ended)
        recoded = bytearray()
        first, *others = decoded.split(UNREADABLE)
        recoded += first.encode()
        for other in others:
            self.unreadable.append(self._offset + len(recoded))
            recoded += "\ufffd".encode()
            recoded += other.encode()
        return bytes(recoded)
