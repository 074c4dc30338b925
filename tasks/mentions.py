"""Whether a rejected row or message is about a person: by their value, or by the key of their row.

Pure. What was rejected is text as received, often for being malformed: it is parsed where it can
be, and searched as text otherwise.
"""

import csv
import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from infra.postgres.erasure_sql import Key
from infra.postgres.identifiers import slug
from schemas.dataset import Spec

_DELIMITERS = ",;\t|"
_PAYLOAD = "payload"


@dataclass(frozen=True, slots=True)
class Mentions:
    """What is looked for in rows and messages of one dataset."""

    value: str | None
    """As a word of its own, in any case; None: the person is known by a key alone."""
    spec: Spec | None = None
    keys: frozenset[Key] = frozenset()
    """Of the person's rows in the dataset."""
    is_theirs: Callable[[str], bool] = field(default=lambda _: False)
    """Whether a cell says what a personal column of those rows says."""

    def are_in(self, text: str, message_key: str | None = None) -> bool:
        """Tell whether the text, or the key of the message that it is, is about the person."""
        record = _parse(text)
        texts = [text, text.replace('""', '"'), message_key or ""]
        if record is not None:
            texts += [leaf for _, leaf in _leaves(record)]
        if self.value and any(map(_word(self.value).search, map(_normal, texts))):
            return True
        if self.spec is None or not self.keys:
            return False
        if message_key is not None and message_key in self._message_keys():
            return True
        found = self._keys_of(record) if record is not None else self._keys_of_line(text)
        return not self.keys.isdisjoint(found)

    def _message_keys(self) -> Iterator[str]:
        """Yield what a producer of this platform calls the messages of these rows."""
        table = self.spec.table if self.spec else ""
        for key in self.keys:
            if len(key) == 1:
                yield f"{table}:{key[0]}"
            else:
                escaped = (each.replace("\\", "\\\\").replace("|", "\\|") for each in key)
                yield f"{table}:{'|'.join(escaped)}"

    def _keys_of(self, record: Any) -> Iterator[Key]:
        """Yield the key of a JSON object, and that of an envelope's payload."""
        records = [record]
        if isinstance(record, dict) and _PAYLOAD in record:
            payload = record[_PAYLOAD]
            records = payload if isinstance(payload, list) else [payload]
        for each in records:
            cells = {slug("_".join(path)): leaf for path, leaf in _leaves(each)}
            if self.spec and all(name in cells for name in self.spec.key):
                yield tuple(_plain(cells[name]) for name in self.spec.key)

    def _keys_of_line(self, text: str) -> Iterator[Key]:
        """Yield the keys that a CSV record may have, whose header nobody kept.

        If it has as many columns as the contract, they stand as there. In any other record a key
        may stand anywhere: it counts where another cell is the person's too.
        """
        spec = self.spec
        if spec is None:
            return
        places = [spec.names.index(name) for name in spec.key]
        for delimiter in _DELIMITERS:
            try:
                cells = next(csv.reader([text], delimiter=delimiter), [])
            except csv.Error:
                continue
            plain = [_plain(each) for each in cells]
            if len(cells) == len(spec.columns):
                yield tuple(plain[place] for place in places)
            for key in self.keys:
                if set(key) <= {*plain} and any(map(self.is_theirs, (*cells, *plain))):
                    yield key


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _leaves(value: Any) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield every value that holds no others, with the names on the way to it."""
    # No recursion: a message may be nested as deep as its sender likes.
    pending: list[tuple[tuple[str, ...], Any]] = [((), value)]
    while pending:
        above, each = pending.pop()
        if isinstance(each, dict):
            pending += [((*above, str(name)), inner) for name, inner in each.items()]
        elif isinstance(each, list):
            pending += [((*above, str(place)), inner) for place, inner in enumerate(each)]
        else:
            yield above, "" if each is None else str(each)


def _plain(cell: str) -> str:
    """Return a key's cell as PostgreSQL would write it: an integer may have blanks and zeros."""
    bare = cell.strip()
    return str(int(bare)) if re.fullmatch(r"[+-]?[0-9]{1,18}", bare) else bare


def _normal(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _word(value: str) -> re.Pattern[str]:
    # `ann@example.com` is neither in `joann@example.com` nor in `ann@example.com.au`.
    return re.compile(rf"(?<![\w@.+-]){re.escape(_normal(value))}(?![\w@-]|\.\w)", re.IGNORECASE)
