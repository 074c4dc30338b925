"""A COMMIT whose answer is lost on its way: done once, and counted once."""

import pytest

from tasks import consume
from tasks.load_batch import BatchReport, load_batch


async def test_a_commit_whose_answer_was_lost_is_not_repeated(
    stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[BatchReport] = []

    async def lose_first_answer(*given: object, **named: object) -> BatchReport:
        report = await load_batch(*given, **named)
        if not lost:
            lost.append(report)
            raise ConnectionResetError("the connection was lost after COMMIT")
        return report

    monkeypatch.setattr(consume, "load_batch", lose_first_answer)
    await stream.create()
    await stream.send(50)
    member = await stream.load_all()
    await stream.require_exactly_once()
    assert len(lost) == 1
    progress = member.progress
    assert (progress.messages, progress.loaded, progress.waits) == (50, 50, 1)
