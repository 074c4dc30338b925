"""A source's rows on their way into COPY: read, cleaned, surveyed and encoded, block by block."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import polars as pl

from infra.cell_encryption import KeyRing
from infra.postgres.copy import CopyEncoder
from infra.postgres.layout import index_name
from schemas.dataset import Spec
from tasks.clean import (
    EXTRA,
    LINE,
    ROW_HASH,
    Binding,
    Reject,
    Tally,
    clean,
    refuse_changed_types,
)
from tasks.personal_cells import encrypt_cells
from tasks.prefetch import from_thread, prefetch
from tasks.profile_rows import RowProfile
from tasks.quarantine import Quarantine
from tasks.source import RowBlock, RowSource
from tasks.survey import Survey


class RowStream:
    """Reading and cleaning run ahead in threads; what is noted of the rows stands beside them."""

    def __init__(
        self,
        source: RowSource,
        spec: Spec,
        binding: Binding,
        quarantine: Quarantine,
        on_progress: Callable[[int], None] | None,
        path: str,
        keys: KeyRing | None,
    ) -> None:
        """Read nothing yet; on_progress: told how many bytes were read so far.

        keys: of the personal columns; None where the contract has none.
        """
        self.tally = Tally()
        self.survey = Survey(spec, source.size_bytes)
        self.profile = RowProfile(spec)
        schema: dict[str, pl.DataType] = {}
        for each in spec.columns:
            schema[each.name] = pl.Binary() if each.pii else each.dtype
            if each.pii:
                schema[index_name(each.name)] = pl.Binary()
        schema |= {LINE: pl.Int64(), ROW_HASH: pl.Int64(), EXTRA: pl.String()}
        self.columns = tuple(schema)
        self._encoder = CopyEncoder(pl.Schema(schema), json_columns=(EXTRA,))
        self._source = source
        self._spec = spec
        self._binding = binding
        self._quarantine = quarantine
        self._on_progress = on_progress
        self._path = path
        self._keys = keys

    async def encoded(self) -> AsyncGenerator[bytes, None]:
        """Yield the accepted rows as a binary COPY stream, and put the others aside."""
        async with aclosing(prefetch(from_thread(iter(self._source)))) as blocks:
            async for block in blocks:
                yield await asyncio.to_thread(self._encode, block)
                if self._on_progress is not None:
                    self._on_progress(block.read_bytes)
        yield self._encoder.finish()

    def _encode(self, block: RowBlock) -> bytes:
        accepted, rejects = clean(
            block.cells,
            block.lines,
            block.raw_text,
            spec=self._spec,
            binding=self._binding,
            tally=self.tally,
            keys=self._keys,
        )
        self._quarantine.add(
            Reject(each.line, each.reason, None, each.detail, each.raw) for each in block.broken
        )
        self._quarantine.add(rejects)
        self.survey.observe(accepted)
        self.profile.observe(accepted)
        # Early, so that a file of another kind is not read to its end; and again after the last.
        refuse_changed_types(self.tally, self._spec, self._path)
        rows = encrypt_cells(accepted, self._spec, self._keys)
        return self._encoder.encode(rows.select(self.columns))
