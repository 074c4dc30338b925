"""Encryption at rest: what a stolen disk tells of the PostgreSQL that ran on it."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.local.postgres import Postgres
from tests.conftest import FAST
from tests.encrypted_volume import Volume, find_missing_program, find_obstacle, make_volume_key
from tests.security.claim import Area, Claim, FoiledError, MissingError, UnsupportedError
from tests.security.session import Session

_SETTINGS = {
    **FAST,
    "max_wal_size": "64MB",
    "min_wal_size": "32MB",
    # A compressed page would hide the marker from the search, which is not what is claimed.
    "wal_compression": "off",
}


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk that PostgreSQL is going to run on."""

    folder: Path
    key: bytes | None


@asynccontextmanager
async def open_stage(session: Session) -> AsyncIterator[Path]:
    """See that such disks can be made here; each attack makes its own."""
    if program := find_missing_program():
        raise MissingError(f"{program} is not installed: run `make system-packages`")
    if obstacle := find_obstacle():
        raise UnsupportedError(f"{obstacle}: run this as root where there are loop devices")
    folder = session.folder / "disks"
    folder.mkdir()
    yield folder


async def steal(disk: Disk) -> str:
    """Return what the image of the disk shows, after PostgreSQL has written a marker to it."""
    marker = f"marker-{secrets.token_hex(12)}"
    disk.folder.mkdir()
    with Volume(disk.folder, key=disk.key) as volume:
        with Postgres(volume.store / "data", settings=_SETTINGS) as server:
            server.execute("CREATE TABLE note (line text)")
            server.execute(f"INSERT INTO note VALUES ('{marker}'); CHECKPOINT")  # noqa: S608 - ours
            if server.execute("SELECT line FROM note") != marker:
                raise RuntimeError("PostgreSQL does not hold the marker")
        volume.unmount()
        found = [text for text in (marker, "PG_VERSION") if volume.holds(text.encode())]
        size = volume.image.stat().st_size
    if found:
        return f"the image shows {' and '.join(found)}"
    raise FoiledError(f"{size >> 20} MiB of image show neither the row nor a file's name")


CLAIMS = (
    Claim(
        "stolen-disk",
        "search the image of a disk under an encrypted file system (fscrypt, AES-256-XTS)",
        steal,
        lambda folder: Disk(folder / "encrypted", make_volume_key()),
        lambda folder: Disk(folder / "plain", None),
        saying="show neither",
    ),
)
AREA = Area("at_rest", "Encryption at rest", open_stage, CLAIMS)
