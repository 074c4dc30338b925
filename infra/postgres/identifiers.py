"""Names on their way into SQL: quoted always, and made sane where they come from outside."""

import hashlib
import re
import unicodedata
from collections import Counter

MAX_BYTES = 63
"""PostgreSQL cuts longer identifiers silently (NAMEDATALEN - 1)."""

_SANE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_DIGEST_LENGTH = 10
_MARK = re.compile(r"_x[0-9a-f]{10}$")
"""How a name ends that was marked with a digest; one that ends so by itself is marked too."""
_SYSTEM_COLUMNS = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"})
"""Every table of PostgreSQL has these already."""
_TABLE_BYTES = 40
"""Leaves room for what is derived from a table's name (`__b123456`, `_pkey`)."""


def quote(name: str) -> str:
    """Return the identifier as SQL takes it, whatever it holds."""
    if not name or "\0" in name:
        raise ValueError(f"{name!r} cannot name anything in PostgreSQL.")
    return '"' + name.replace('"', '""') + '"'


def qualify(schema: str, name: str) -> str:
    """Return `"schema"."name"`."""
    return f"{quote(schema)}.{quote(name)}"


def slug(name: str) -> str:
    """Return lower-case ASCII letters, digits and single underscores, a letter first.

    Different names can have the same slug.
    """
    folded = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    words = re.findall(r"[a-z0-9]+", folded)
    text = "_".join(words) or "x"
    return text if text[0].isalpha() else f"x_{text}"


def table_name(name: str) -> str:
    """Return a table's name for a source of any name; different sources get different names.

    A name that is sane already stays; any other is slugged and marked with a digest of itself, and
    so is the rare sane name that looks marked.
    """
    if _SANE.fullmatch(name) and len(name) <= _TABLE_BYTES and not _MARK.search(name):
        return name
    return _marked(slug(name), name, _TABLE_BYTES)


def column_names(header: tuple[str, ...]) -> tuple[str, ...]:
    """Return one distinct column name for each name of a header, in order.

    None begins with an underscore: those are the platform's own.
    """
    slugs = [slug(name) for name in header]
    counts = Counter(slugs)
    taken: set[str] = set()
    result = []
    for name, plain in zip(header, slugs, strict=True):
        is_usable = len(plain) <= MAX_BYTES and plain not in _SYSTEM_COLUMNS
        is_its_own = counts[plain] == 1 or plain == name
        chosen = plain if is_usable and is_its_own else _marked(plain, name, MAX_BYTES)
        serial = 2
        while chosen in taken:
            chosen = _marked(plain, f"{name}\0{serial}", MAX_BYTES)
            serial += 1
        taken.add(chosen)
        result.append(chosen)
    return tuple(result)


def _marked(plain: str, original: str, max_bytes: int) -> str:
    digest = hashlib.sha256(original.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_LENGTH]
    return f"{plain[: max_bytes - _DIGEST_LENGTH - 2].rstrip('_')}_x{digest}"
