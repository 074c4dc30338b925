"""What of the data a person may read here: nothing that is personal, or that may be.

Values of personal columns, and of columns that no contract describes, are never asked for. What is
text as received (rows in quarantine) is hidden character by character instead, so that its form,
which often is what was wrong with it, is still seen. Where it is kept encrypted, nothing of it is.
"""

import re

from infra.hiding import hide
from infra.redaction import redact
from schemas.datasets import DATASETS

MASK = "•••"
"""Stands for a value that was not asked for."""
ENCRYPTED = "encrypted"
"""Stands for a row or a message that is kept encrypted: the dashboard has no keys."""

_ADDRESS = re.compile(r"[^\s<>\"'(){},;:]+@[^\s<>\"'(){},;:]+")
# A channel's URL is its secret, all of it.
_URL = re.compile(r"\b([a-z][a-z0-9+.-]*://)[^\s<>\"']+", re.IGNORECASE)
# From the first quotation mark to the last: a value can hold some itself.
_QUOTED = re.compile(r"'.*'", re.DOTALL)


def impersonal() -> frozenset[str]:
    """Return the datasets whose contracts name no personal column."""
    return frozenset(
        each.spec.table for each in DATASETS if not any(column.pii for column in each.spec.columns)
    )


def may_be_personal(dataset: str) -> bool:
    """Tell whether the dataset has personal columns, or no contract that would say so."""
    return dataset not in impersonal()


def show_bounds(dataset: str) -> tuple[str, ...]:
    """Return the columns whose values may be shown: none where there is no contract."""
    for each in DATASETS:
        if each.spec.table == dataset:
            return tuple(column.name for column in each.spec.columns if not column.pii)
    return ()


def hide_addresses(text: str) -> str:
    """Return an error of sending without who was to get it: no e-mail address, no channel's URL."""
    return _ADDRESS.sub(MASK, _URL.sub(rf"\1{MASK}", redact(text)))


def show_raw(dataset: str, raw: str | None, *, is_operator: bool) -> str:
    """Return a row as received, as far as its reader may read it; None: it is encrypted.

    Viewers see its form only: also a dataset without personal columns can be sent a file that has
    some. Where the contract names personal columns, or there is none, nobody sees more here.
    """
    if raw is None:
        return ENCRYPTED
    return raw if is_operator and not may_be_personal(dataset) else hide(raw)


def show_reason(dataset: str, reason: str) -> str:
    """Return why a row was refused; the cells that it quotes are hidden where one may be personal.

    A reason never quotes a personal column's cell. But where a row lacks a cell, the personal one
    stands in its neighbour's place and is quoted under the neighbour's name.
    """
    if not may_be_personal(dataset):
        return reason
    return _QUOTED.sub(lambda found: hide(found[0]), reason)
