"""What lies in the raw folder: which files are data, and of which dataset."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath

from infra.postgres.identifiers import table_name
from schemas.dataset import Spec
from schemas.errors import RefusedError

CSV_ENDINGS = (".csv", ".tsv")
FRAME_ENDINGS = (".xlsx", ".json", ".jsonl", ".ndjson", ".parquet")
COMPRESSED = (".gz", ".zst")
_UNFINISHED = (".part", ".tmp", ".crdownload", ".filepart")


@dataclass(frozen=True, slots=True)
class Found:
    """A file that is to be loaded."""

    path: Path
    """Absolute."""
    table: str
    spec: Spec | None
    """The contract; None: there is none for a file of that name."""

    @property
    def is_csv(self) -> bool:
        """Whether it is read in blocks; any other format is read whole."""
        return split_name(self.path.name)[0] in CSV_ENDINGS


def discover_files(folder: Path, specs: Iterable[Spec]) -> tuple[list[Found], list[str]]:
    """Return the folder's data files, older ones first, and a sentence for each thing left out.

    A file belongs to the dataset whose table it is named after: `sales_data.csv`, and with a
    date or number behind it `sales_data_2025-01-31.csv.gz`. Hidden and unfinished files are
    passed over without a word. Raises RefusedError when the folder cannot be looked into.
    """
    by_table = {spec.table: spec for spec in specs}
    found: list[tuple[float, Found]] = []
    notes = []
    for entry in _entries(folder):
        name = entry.name
        if name.startswith((".", "~$")) or name.lower().endswith(_UNFINISHED):
            continue
        path = Path(entry.path).absolute()
        shown = os.fsencode(path).decode("utf-8", "backslashreplace")
        ending, stem = split_name(name)
        if ending not in (*CSV_ENDINGS, *FRAME_ENDINGS):
            kind = split_name(shown)[0]
            what = f"'{kind}' files" if kind else "files without an ending"
            notes.append(f"{shown} was left out: the platform reads no {what}.")
        elif shown != str(path):
            notes.append(f"{shown} was left out: its name is not UTF-8, rename the file.")
        elif entry.is_dir():
            notes.append(f"{shown} was left out: it is a folder, only files are read.")
        else:
            table = _dataset_of(stem, by_table) or table_name(stem)
            found.append((_modified(entry), Found(path, table, by_table.get(table))))
    return [each for _, each in sorted(found, key=lambda pair: (pair[0], pair[1].path))], notes


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        return sorted(os.scandir(folder), key=lambda each: each.name)
    except FileNotFoundError:
        raise RefusedError(
            f"The folder {folder} does not exist: create it, or set SLUICEWAY_RAW_FOLDER to the "
            "folder your files are in."
        ) from None
    except NotADirectoryError:
        raise RefusedError(
            f"{folder} is a file, not a folder: set SLUICEWAY_RAW_FOLDER to a folder."
        ) from None
    except PermissionError:
        raise RefusedError(
            f"The folder {folder} may not be read by this user: give it read permission."
        ) from None


def split_name(name: str) -> tuple[str, str]:
    """Return the ending that says a file's format, compression aside, and the name before it."""
    for ending in COMPRESSED:
        if name.lower().endswith(ending):
            name = name[: -len(ending)]
    parts = PurePath(name)
    return parts.suffix.lower(), parts.stem


def _dataset_of(stem: str, tables: Iterable[str]) -> str | None:
    wanted = stem.lower()
    for table in sorted(tables, key=len, reverse=True):
        if re.fullmatch(re.escape(table) + r"([-_. ]?[0-9][0-9tz_.:+\- ]*)?", wanted):
            return table
    return None


def _modified(entry: os.DirEntry[str]) -> float:
    try:
        return entry.stat().st_mtime
    except OSError:
        # It is gone or out of reach since the folder was read: loading it will say so.
        return 0.0
