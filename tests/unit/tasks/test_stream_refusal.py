"""What Kafka refuses is told in a sentence: no traceback for a login that may not read."""

import pytest
from aiokafka.errors import GroupAuthorizationFailedError

from infra.settings import Settings
from schemas.errors import TerminalError
from tasks.offsets import Reader
from tasks.stream_source import StreamSource


async def test_a_login_that_may_not_read_is_told_what_to_check(monkeypatch) -> None:
    settings = Settings(kafka_bootstrap_servers="kafka.example:9092", kafka_security="ssl")
    reader = Reader("readers", "data-stream", "here:1")
    source = StreamSource(None, settings, reader, lambda: None)  # type: ignore[arg-type] # no pool: nothing is claimed

    async def refuse(**_: object) -> None:
        raise GroupAuthorizationFailedError("readers")

    monkeypatch.setattr(source.consumer, "getmany", refuse)
    with pytest.raises(TerminalError, match=r"kafka\.example:9092 refused .* group readers"):
        await source.next_batch()
    await source.stop()
