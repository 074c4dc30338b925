"""Polars frames on their way into COPY: PostgreSQL's binary format, made by pgpq from Arrow."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import asyncpg
import pgpq
import polars as pl
from pgpq.encoders import LargeStringEncoderBuilder
from pgpq.schema import Jsonb

from infra.postgres.connection import Connection


class CopyEncoder:
    """Turns frames of one schema into one binary COPY stream; needs no escaping."""

    def __init__(self, schema: pl.Schema, *, json_columns: tuple[str, ...] = ()) -> None:
        """Choose an encoder per column; `json_columns` are String columns that hold JSON."""
        arrow = pl.DataFrame(schema=schema).to_arrow().schema
        encoders = {
            name: pgpq.ArrowToPostgresBinaryEncoder.infer_encoder(arrow.field(name))
            for name in arrow.names
        }
        for name in json_columns:
            encoders[name] = LargeStringEncoderBuilder.new_with_output(arrow.field(name), Jsonb())
        self._encoder = pgpq.ArrowToPostgresBinaryEncoder.new_with_encoders(arrow, encoders)
        self._is_open = False

    def encode(self, frame: pl.DataFrame) -> bytes:
        """Return the frame's rows as the next part of the stream."""
        parts = [] if self._is_open else [self._encoder.write_header()]
        self._is_open = True
        parts += [self._encoder.write_batch(batch) for batch in frame.to_arrow().to_batches()]
        return b"".join(parts)

    def finish(self) -> bytes:
        """Return the stream's end."""
        parts = [] if self._is_open else [self._encoder.write_header()]
        return b"".join([*parts, self._encoder.finish()])


async def copy_binary(
    connection: Connection,
    schema: str,
    table: str,
    columns: tuple[str, ...],
    stream: AsyncGenerator[bytes, None],
) -> int:
    """Send a binary COPY stream into a table made in this transaction; returns the rows it took.

    The rows are written frozen: nobody has to visit them again to mark them visible. An exception
    in the stream aborts the COPY and with it the transaction.
    """
    async with aclosing(_while_open(connection, stream)) as parts:
        status = await connection.copy_to_table(
            table, schema_name=schema, columns=columns, source=parts, format="binary", freeze=True
        )
    return affected(status)


async def _while_open(
    connection: Connection, stream: AsyncGenerator[bytes, None]
) -> AsyncGenerator[bytes, None]:
    """Yield the stream as long as there is a connection to send it over, and close it.

    asyncpg would read the rest of the source before it says that the connection is lost.
    """
    async with aclosing(stream):
        async for part in stream:
            if _is_lost(connection):
                raise asyncpg.ConnectionDoesNotExistError("the connection was lost during COPY")
            yield part


def _is_lost(connection: Connection) -> bool:
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:  # the pool has taken the lost connection back already
        return True


def affected(status: str) -> int:
    """Return the number of rows in a command's answer, such as `INSERT 0 5`."""
    return int(status.rsplit(" ", 1)[1])
