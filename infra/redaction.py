"""What no log line and no recorded error shows: secrets, e-mail addresses, personal data.

The values are replaced by `•••`; the names of columns and settings stay, so that a message still
says what is wrong. It errs on the side of hiding too much: `name='x'` in a traceback is hidden
where a contract calls a column `name` personal.
"""

import logging
import re
import traceback
from collections.abc import MutableMapping
from functools import lru_cache
from typing import Any

from pydantic import BaseModel

from infra.postgres.error_text import hide_values
from infra.secret_texts import SecretTexts, parts_of, secrets_of
from schemas.datasets import DATASETS

MASK = "•••"
MAX_CHARACTERS = 100_000
"""Of a text that is longer, the rest is not shown: looking through it would hold the run up."""
_MARGIN = 1_000
"""As much is dropped at the cut, where a secret may have lost its end."""
_MAX_DEPTH = 5
_NUMBERS = frozenset({int, float})
_HUGE = 1e300
_SEQUENCES = (list, tuple, set, frozenset)

_MADE_HERE = frozenset({"level", "timestamp"})
_NEVER_HIDDEN = _MADE_HERE | {"event"}
PERSONAL = frozenset(
    column.name.lower() for each in DATASETS for column in each.spec.columns if column.pii
)
"""The columns that any contract calls personal."""

_SECRET_KEY = r"(?:pass(?:word|wd|phrase)|pwd|secret|token|api[_-]?key|authorization|credential)"  # noqa: S105 - names of secrets
_QUOTE = r"\\{0,4}[\"']"
# Also with the backslashes of JSON within JSON; without an end, to the end of the text.
_QUOTED = r"""(?:\\{0,4}"(?:[^"\\]|\\[\s\S])*+"?|\\{0,4}'(?:[^'\\]|\\[\s\S])*+'?)"""
_NUMBER = r"-?\d[\d.eE+-]*"
_NESTED = r"(?:\[[^\]]*+\]?|\{[^}]*+\}?)"
_IN_MAIL = r"[^\s@<>()\[\]{},;:\"'=|/\\&?•]"
_IN_DOMAIN = r"[^\s@<>()\[\]{},;:\"'=|/\\&?•.]"

_is_secret_key = re.compile(_SECRET_KEY, re.IGNORECASE).search
_CREDENTIALS = re.compile(
    # user:password@ as it should be written, and with a password that nobody escaped.
    r"(://)(?:[^\s/?#]{1,512}@|[^\s/?#:@]{1,256}:(?!\d+(?:/|$))\S{1,256}@)"
)
_MAIL = re.compile(rf"(?<!{_IN_MAIL}){_IN_MAIL}++@{_IN_DOMAIN}++(?:\.{_IN_DOMAIN}++)+")
_ESCAPED_MAIL = re.compile(r"(?<![\w.+-])[\w.+-]++%40[\w-]++(?:\.[\w-]++)+")
_SCHEME = re.compile(
    # "Basic authentication" is no secret: what is has a digit, a sign or a capital within.
    r"\b(bearer\s+)[\w.~+/=%-]{4,}"
    r"|\b(basic\s+)(?-i:(?=[\w+/]*(?:[\d=+/]|[a-z][A-Z])))[\w+/=-]{6,}",
    re.IGNORECASE,
)
_SECRET_PAIR = re.compile(
    rf"({_SECRET_KEY}[\w.-]{{0,40}}(?:{_QUOTE})?[ \t]{{0,3}}[=:][ \t]{{0,3}})"
    rf"(?:{_QUOTED}|{_NESTED}|(?:(?:bearer|basic|digest|token)[ \t]+)?[^\s&\"'•]+)",
    re.IGNORECASE,
)
_PERSONAL_KEY = "|".join(sorted(map(re.escape, PERSONAL), key=len, reverse=True)) or r"(?!)"
_PERSONAL_PAIR = re.compile(
    rf"((?<![\w.]){_QUOTE}(?:{_PERSONAL_KEY}){_QUOTE}\s{{0,3}}:\s{{0,3}})"
    rf"(?:{_QUOTED}|{_NESTED}|{_NUMBER})"
    rf"|((?<![\w.])(?:{_PERSONAL_KEY})\s?=\s?){_QUOTED}",
    re.IGNORECASE,
)

_secrets = SecretTexts()


def hide_secrets_of(settings: BaseModel) -> None:
    """From now on, no redacted text shows a secret of these settings, however it is escaped."""
    _secrets.add(secrets_of(settings))


def hide_password_of(url: str) -> None:
    """From now on, no redacted text shows the address with its password, nor the password."""
    _secrets.add(parts_of(url))


def redact(text: str) -> str:
    """Return the text without secrets, e-mail addresses and personal values; cut if it is huge."""
    is_cut = len(text) > MAX_CHARACTERS
    shown = _secrets.hide(text[:MAX_CHARACTERS] if is_cut else text, MASK)
    if "://" in shown:
        shown = _CREDENTIALS.sub(rf"\1{MASK}@", shown)
    if "=" in shown or ":" in shown:
        shown = _SECRET_PAIR.sub(rf"\1{MASK}", shown)
        if '"' in shown or "'" in shown:
            shown = _PERSONAL_PAIR.sub(_keep_key, shown)
    if "@" in shown:
        shown = _MAIL.sub(MASK, shown)
    if "%40" in shown:
        shown = _ESCAPED_MAIL.sub(MASK, shown)
    # The first letter may be a capital, or all of them.
    if "earer" in shown or "asic" in shown or "EARER" in shown or "ASIC" in shown:
        shown = _SCHEME.sub(_keep_key, shown)
    shown = hide_values(shown, MASK)
    if is_cut:
        shown = f"{shown[:-_MARGIN]}… (cut: it had {len(text):,} characters)"
    return shown


def redact_fields(_: Any, __: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Redact a line, as a processor of structlog; what is neither number nor text becomes text."""
    for name, value in fields.items():
        if name not in _MADE_HERE:
            fields[name] = _redact_value(name, value, _MAX_DEPTH)
    return fields


def redact_record(record: logging.LogRecord) -> bool:
    """Redact a record of the standard library, as a filter of handlers; returns True.

    A line of structlog's was redacted before it became a record.
    """
    if hasattr(record, "fields") or hasattr(record, "is_redacted"):
        return True
    try:
        message = record.getMessage()
    except Exception:  # noqa: BLE001 - the handler would print the same, arguments and all
        message = f"{record.msg} (its arguments do not fit)"
    record.msg, record.args = redact(message), None
    if record.exc_info and record.exc_info[1] is not None:
        record.exc_text = "".join(traceback.format_exception(record.exc_info[1])).rstrip("\n")
    if record.exc_text:
        record.exc_text = redact(record.exc_text)
    # A handler that formatted it by itself would show what was hidden.
    record.exc_info = None
    record.is_redacted = True
    return True


@lru_cache(maxsize=4096)
def is_hidden_key(name: str) -> bool:
    """Tell whether values under this key are hidden, whatever they are."""
    if name in _NEVER_HIDDEN:
        return False
    return name.rsplit(".", 1)[-1].lower() in PERSONAL or bool(_is_secret_key(name))


def _redact_value(name: str, value: Any, depth: int) -> Any:
    if value is None or value is True or value is False:
        return value
    if is_hidden_key(name):
        return MASK
    # What is beyond, and no number at all, is not written as a number by everybody.
    if type(value) in _NUMBERS and abs(value) < _HUGE:
        return value
    if depth and isinstance(value, dict):
        pairs = [(_as_text(key), each) for key, each in value.items()]
        return {redact(key): _redact_value(key, each, depth - 1) for key, each in pairs}
    if depth and isinstance(value, _SEQUENCES):
        return [_redact_value("", each, depth - 1) for each in value]
    return redact(_as_text(value))


def _as_text(value: object) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - a line is never lost by what it wanted to show
        return f"<a {type(value).__name__} that cannot be shown>"


def _keep_key(found: re.Match[str]) -> str:
    return f"{found[1] or found[2]}{MASK}"
