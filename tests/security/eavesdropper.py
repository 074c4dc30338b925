"""Those on the way: one who answers in place of a service, one who passes everything on."""

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

FOREIGN = "127.0.0.2"
"""This machine by an address that the platform does not take for it."""
_SSL_REQUEST = struct.pack(">II", 8, 80877103)
_ASK_IN_CLEAR = b"R" + struct.pack(">II", 8, 3)


class Listener:
    """Listens on FOREIGN, keeps what it hears, and says nothing."""

    def __init__(self) -> None:
        """Hear nothing yet."""
        self.heard = b""
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._begin, FOREIGN, 0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
        if self._server is not None:
            self._server.close()
        for each in self._open:
            each.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        if self._server is None:
            raise RuntimeError("It does not listen yet.")
        return int(self._server.sockets[0].getsockname()[1])

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(asyncio.create_task(self._hear(reader, writer)))

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._converse(reader, writer)
        except (OSError, EOFError):
            # Whoever called has hung up: what there was to hear is kept.
            return
        finally:
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await self._read(reader)

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        piece = await reader.read(4096)
        self.heard += piece
        if not piece:
            raise EOFError
        return piece


class FalsePostgres(Listener):
    """Answers as PostgreSQL does, and asks for the password in clear."""

    def __init__(self, certificates: Path | None = None) -> None:
        """certificates: a folder with `postgres.pem` and its key; without one it refuses TLS."""
        super().__init__()
        self._tls: ssl.SSLContext | None = None
        if certificates is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificates / "postgres.pem", certificates / "postgres.key")

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await self._read(reader)
        if first.startswith(_SSL_REQUEST):
            writer.write(b"S" if self._tls else b"N")
            await writer.drain()
            if self._tls is not None:
                await writer.start_tls(self._tls)
            await self._read(reader)
        writer.write(_ASK_IN_CLEAR)
        await writer.drain()
        await self._read(reader)


@asynccontextmanager
async def impostor(certificate: Path, key: Path, to_port: int, ca: Path) -> AsyncIterator[int]:
    """Yield the port of somebody with that certificate who passes all on to the real service."""
    shown = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shown.load_cert_chain(certificate, key)
    believed = ssl.create_default_context(cafile=ca)
    links: set[asyncio.Task[None]] = set()

    async def link(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, ahead = await asyncio.open_connection("127.0.0.1", to_port, ssl=believed)

        async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65_536):
                sink.write(data)
                await sink.drain()

        ways = [asyncio.create_task(carry(*way)) for way in ((reader, ahead), (behind, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in ways:
                each.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for each in (writer, ahead):
                each.transport.abort()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        links.add(asyncio.create_task(link(reader, writer)))

    server = await asyncio.start_server(begin, "127.0.0.1", 0, ssl=shown)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for each in links:
            each.cancel()
        await asyncio.gather(*links, return_exceptions=True)


class FalseMail(Listener):
    """Answers as a mail server does that takes logins before there is TLS."""

    def __init__(self, *, offers_tls: bool) -> None:
        """offers_tls: name STARTTLS too; the connection ends where it is asked for."""
        super().__init__()
        self._offers = [b"AUTH PLAIN", *([b"STARTTLS"] if offers_tls else [])]

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.test\r\n")
        while True:
            said = (await self._read(reader)).upper()
            if said.startswith(b"EHLO"):
                writer.write(b"250-mail.test\r\n250-" + b"\r\n250-".join(self._offers))
                writer.write(b"\r\n250 SIZE 1000000\r\n")
            elif said.startswith(b"STARTTLS"):
                return
            else:
                writer.write(b"235 welcome\r\n" if said.startswith(b"AUTH") else b"221 bye\r\n")
            await writer.drain()
