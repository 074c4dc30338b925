"""Checks side by side: whatever one does, the others say how their parts are."""

import asyncio
import datetime as dt
import threading
from collections.abc import Iterator

import pytest

from infra.health import checker
from infra.health.checker import MAX_CHARACTERS, Checker
from infra.health.finding import Check, Finding, Result, Status, bad, good, unknown
from infra.redaction import MASK

NOW = dt.datetime(2026, 11, 23, 14, 5, 0, 1, tzinfo=dt.UTC)


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Lets go what hangs."""
    monkeypatch.setattr(checker, "GRACE_SECONDS", 0.05)
    event = threading.Event()
    yield event
    event.set()


async def fine() -> Finding:
    return good("It works.")


def states(results: list[Result]) -> dict[str, str]:
    return {each.component: each.status.value for each in results}


async def test_each_component_has_its_result_of_the_same_time() -> None:
    async def broken() -> Finding:
        return bad("It does not.")

    async def nobody_knows() -> Finding:
        return unknown("Who knows.")

    checks: dict[str, Check] = {"postgres": fine, "kafka": broken, "workers": nobody_knows}
    results = await Checker(checks, timeout_seconds=5).run(NOW)
    assert [(each.component, each.status, each.detail) for each in results] == [
        ("postgres", Status.GOOD, "It works."),
        ("kafka", Status.BAD, "It does not."),
        ("workers", Status.UNKNOWN, "Who knows."),
    ]
    assert {each.checked_at for each in results} == {NOW}


async def test_a_check_that_never_answers_is_bad() -> None:
    async def never() -> Finding:
        await asyncio.Event().wait()
        return good("It works.")

    results = await Checker({"kafka": never, "disk": fine}, timeout_seconds=0.05).run(NOW)
    assert states(results) == {"kafka": "BAD", "disk": "GOOD"}
    assert results[0].detail == "It gave no answer within 0.05 s."
    assert results[0].latency_seconds >= 0.05


async def test_a_check_that_blocks_its_thread_holds_up_no_other(release: threading.Event) -> None:
    begun: list[int] = []

    async def blocks() -> Finding:
        begun.append(threading.get_ident())
        release.wait()
        return good("It works.")

    watch = Checker({"disk": blocks, "memory": fine}, timeout_seconds=0.05)
    assert states(await watch.run(NOW)) == {"disk": "BAD", "memory": "GOOD"}
    assert not release.is_set()
    # It is not started again while it hangs: threads would pile up.
    again = await watch.run(NOW)
    assert states(again) == {"disk": "BAD", "memory": "GOOD"}
    assert again[0].detail == "An earlier check of it still hangs, without an answer."
    [hanging] = begun
    [thread] = [each for each in threading.enumerate() if each.ident == hanging]
    assert thread.daemon
    release.set()
    thread.join()
    assert states(await watch.run(NOW)) == {"disk": "GOOD", "memory": "GOOD"}


async def test_a_check_that_does_not_let_itself_be_cancelled_is_bad(
    release: threading.Event,
) -> None:
    async def stubborn() -> Finding:
        while not release.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue
        return good("It works.")

    results = await Checker({"kafka": stubborn, "disk": fine}, timeout_seconds=0.05).run(NOW)
    assert states(results) == {"kafka": "BAD", "disk": "GOOD"}


def test_an_answer_after_everybody_has_gone_troubles_nobody(
    release: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    async def blocks() -> Finding:
        release.wait()
        return good("It works.")

    asyncio.run(Checker({"late": blocks}, timeout_seconds=0.05).run(NOW))
    [thread] = [each for each in threading.enumerate() if each.name == "health of late"]
    release.set()
    thread.join()
    assert caplog.records == []


@pytest.mark.parametrize("error", [ValueError("what is this"), SystemExit(3), StopIteration()])
async def test_a_check_that_fails_itself_is_unknown(error: BaseException) -> None:
    async def fails() -> Finding:
        raise error

    results = await Checker({"cpu": fails, "disk": fine}, timeout_seconds=5).run(NOW)
    assert states(results) == {"cpu": "UNKNOWN", "disk": "GOOD"}
    assert results[0].detail.startswith("The check itself failed: ")


async def test_an_operation_that_timed_out_within_is_bad() -> None:
    async def times_out() -> Finding:
        raise TimeoutError("the socket said nothing")

    [result] = await Checker({"kafka": times_out}, timeout_seconds=5).run(NOW)
    assert result.status is Status.BAD
    assert result.detail == "It gave no answer in time: the socket said nothing."


async def test_a_detail_shows_no_secret_and_fits_the_table() -> None:
    async def chatty() -> Finding:
        return bad("postgresql://eve:pa55word@db/x refused.\0\n" + "More. " * 1000)

    [result] = await Checker({"postgres": chatty}, timeout_seconds=5).run(NOW)
    assert result.detail.startswith(f"postgresql://{MASK}@db/x refused. More.")
    assert len(result.detail) <= MAX_CHARACTERS
    assert "\0" not in result.detail
