"""The keys of personal cells, from the settings; and a new key, for whoever needs one.

    python -m infra.cell_keys

prints a setting's value, such as `2026-11-23-5e1f=…`; with `--ids`, which id the cells of each key
have. Put a new key before the old ones, restart what runs, run `rotate_keys`, and take the old key
away.
"""

import argparse
import base64
import datetime as dt
import re
import secrets
import sys
from collections.abc import Iterable
from functools import lru_cache

from infra.cell_encryption import KEY_BYTES, KeyRing, key_id
from infra.settings import Settings, read_settings
from schemas.dataset import Spec
from schemas.errors import SettingError


def make_key(name: str | None = None) -> str:
    """Return a new key as the settings want it: its name, `=`, base64.

    name: by default today's date with four digits, which no other key of the day has.
    """
    name = name or f"{dt.datetime.now(dt.UTC).date().isoformat()}-{secrets.token_hex(2)}"
    return f"{name}={base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()}"


def has_personal_columns(specs: Iterable[Spec]) -> bool:
    """Tell whether any of these contracts calls a column personal."""
    return any(each.pii for spec in specs for each in spec.columns)


def read_key_ring(settings: Settings | None = None) -> KeyRing:
    """Return the ring of the settings; raises SettingError where a key is missing or none."""
    settings = settings or read_settings()
    return _make_ring(settings.cell_keys.get_secret_value(), settings.index_keys.get_secret_value())


def key_ring_for(*specs: Spec) -> KeyRing | None:
    """Return the ring of the settings where a contract has personal columns, and else None."""
    return read_key_ring() if has_personal_columns(specs) else None


@lru_cache(maxsize=4)
def _make_ring(cell_keys: str, index_keys: str) -> KeyRing:
    return KeyRing(
        list(_parse("CELL_KEYS", cell_keys).values()),
        list(_parse("INDEX_KEYS", index_keys).values()),
    )


def name_ids(settings: Settings) -> dict[str, str]:
    """Return the id (8 hexadecimal digits) that cells of each key have, by the key's name."""
    keys = _parse("CELL_KEYS", settings.cell_keys.get_secret_value())
    return {name: key_id(key).hex() for name, key in keys.items()}


def _parse(setting: str, text: str) -> dict[str, bytes]:
    """Return the keys by name, in their order; the text is never quoted."""
    parts = [each for each in re.split(r"[\s,]+", text) if each]
    if not parts:
        raise SettingError(
            f"SLUICEWAY_{setting} is not set, and a dataset has personal columns: make a key by "
            "`python -m infra.cell_keys` and keep it where the database is not."
        )
    keys: dict[str, bytes] = {}
    for place, part in enumerate(parts, start=1):
        name, is_named, encoded = part.partition("=")
        try:
            key = base64.b64decode(encoded, validate=True) if is_named else b""
        except ValueError:
            key = b""
        if not name or len(key) != KEY_BYTES:
            raise SettingError(
                f"Key {place} of SLUICEWAY_{setting} is no name=key of {KEY_BYTES} bytes in "
                "base64: make one by `python -m infra.cell_keys`."
            )
        if name in keys:
            raise SettingError(f"SLUICEWAY_{setting} has two keys of one name: rename key {place}.")
        keys[name] = key
    return keys


def main() -> None:
    """Print a new key, or the ids of those that are set; exits with a sentence when it fails."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.cell_keys",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--name", help="of the key; by default today's date and four digits")
    parser.add_argument("--ids", action="store_true", help="name the keys that are set, and ids")
    given = parser.parse_args()
    if not given.ids:
        sys.stdout.write(make_key(given.name) + "\n")
        return
    try:
        for name, identity in name_ids(read_settings()).items():
            sys.stdout.write(f"{identity} {name}\n")
    except SettingError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
