"""Keys for the personal columns of the sample contracts, in this process and those it starts."""

import os

from infra.cell_keys import make_key


def provide_keys() -> None:
    """Leave keys in the environment, where there are none yet."""
    for setting in ("CELL_KEYS", "INDEX_KEYS"):
        os.environ.setdefault(f"SLUICEWAY_{setting}", make_key("tests"))
