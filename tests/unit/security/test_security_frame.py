"""The frame of `make security-check`: it can fail, it says why, and it never crashes."""

import datetime as dt
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.security.claim import Area, Claim, FoiledError, MissingError, UnsupportedError, prove
from tests.security.report import write_report
from tests.security.runner import closing_line, exit_code, run


class WrongCaError(Exception):
    pass


async def attack(target: BaseException | None) -> str:
    """Get in where nothing is in the way."""
    if target is not None:
        raise target
    return "every row"


def make_claim(
    protected: BaseException | None, unprotected: BaseException | None, **more: Any
) -> Claim:
    return Claim("a-claim", "tried", attack, lambda _: protected, lambda _: unprotected, **more)


def make_area(*claims: Claim, opening: BaseException | None = None) -> Area:
    @asynccontextmanager
    async def stage(_: object) -> AsyncIterator[None]:
        if opening is not None:
            raise opening
        yield None

    return Area("area", "An area", stage, claims)


HOLDS = make_claim(FoiledError("refused"), None)
OPEN = make_claim(None, None)
MISSING = make_claim(MissingError("run `make kafka`"), None)
NO_KERNEL = make_claim(UnsupportedError("no fscrypt here"), None)


async def test_a_claim_holds_where_the_attack_works_only_without_protection() -> None:
    verdict = await prove("area", HOLDS, None)
    assert verdict.line == (
        "pass area/a-claim: tried: repelled: refused; without protection: every row"
    )


async def test_a_claim_whose_attack_works_fails() -> None:
    verdict = await prove("area", OPEN, None)
    assert verdict.state == "fail"
    assert "THE ATTACK WORKED: every row" in verdict.line


async def test_a_claim_whose_attack_never_works_fails_too() -> None:
    verdict = await prove("area", make_claim(FoiledError("refused"), FoiledError("no")), None)
    assert verdict.state == "fail"
    assert "the attack does not work there either: FoiledError: no" in verdict.line


async def test_an_attack_that_breaks_is_not_repelled() -> None:
    verdict = await prove("area", make_claim(ConnectionError("nobody there"), None), None)
    assert verdict.state == "fail"
    assert "it broke, which is no defence: ConnectionError: nobody there" in verdict.line


@pytest.mark.parametrize(
    ("raised", "state"),
    [
        (WrongCaError("unable to get local issuer"), "pass"),
        (WrongCaError("the server is away"), "fail"),
        (FoiledError("unable to get local issuer"), "fail"),
    ],
)
async def test_only_the_claimed_reason_counts(raised: Exception, state: str) -> None:
    claim = make_claim(raised, None, repelled_by=WrongCaError, saying="local issuer")
    assert (await prove("area", claim, None)).state == state


async def test_a_stage_that_cannot_be_set_fails_its_claims_with_its_sentence() -> None:
    said: list[str] = []
    broken = make_area(HOLDS, HOLDS, opening=OSError("no space left"))
    verdicts = await run([broken, make_area(HOLDS)], None, said.append)
    assert [each.state for each in verdicts] == ["fail", "fail", "pass"]
    assert said[0] == "fail area/a-claim: tried: it could not be tried: OSError: no space left"
    assert closing_line(verdicts) == "claims=3 failed=2 skipped=0"
    assert exit_code(verdicts) == 1


async def test_what_is_missing_is_skipped_in_sight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLUICEWAY_REQUIRE_SYSTEM", raising=False)
    said: list[str] = []
    areas = [make_area(HOLDS, opening=MissingError("run `make kafka`")), make_area(MISSING, HOLDS)]
    verdicts = await run(areas, None, said.append)
    assert said[0] == "skip area/a-claim: tried: run `make kafka`"
    assert closing_line(verdicts) == "claims=3 failed=0 skipped=2"
    assert exit_code(verdicts) == 0


async def test_where_all_has_to_be_there_a_missing_package_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SLUICEWAY_REQUIRE_SYSTEM", "1")
    verdicts = await run([make_area(HOLDS, MISSING, NO_KERNEL)], None, lambda _: None)
    assert closing_line(verdicts) == "claims=3 failed=1 skipped=1"
    assert exit_code(verdicts) == 1
    # No package changes the kernel: what it cannot do is skipped in sight.
    assert exit_code([verdicts[0], verdicts[2]]) == 0
    assert exit_code(verdicts[2:]) == 1


async def test_a_stage_that_does_not_come_down_fails_its_last_claim() -> None:
    @asynccontextmanager
    async def stage(_: object) -> AsyncIterator[None]:
        yield None
        raise OSError("still running")

    verdicts = await run([Area("area", "An area", stage, (HOLDS, HOLDS))], None, lambda _: None)
    assert [each.state for each in verdicts] == ["pass", "fail"]


def test_a_check_of_nothing_does_not_pass() -> None:
    assert exit_code([]) == 1


async def test_a_claim_may_choose_its_target_asynchronously() -> None:
    async def choose(stage: str) -> BaseException:
        return FoiledError(stage)

    claim = Claim("a-claim", "tried", attack, choose, lambda _: None)
    assert "repelled: the stage" in (await prove("area", claim, "the stage")).line


async def test_the_report_says_what_happened_both_times(tmp_path: Path) -> None:
    area = make_area(HOLDS, OPEN)
    verdicts = await run([area], None, lambda _: None)
    path = tmp_path / "reports" / "one.md"
    now = dt.datetime(2026, 1, 31, 14, 5, tzinfo=dt.UTC)
    write_report(path, [area], verdicts, {"PostgreSQL": "15, TLSv1.3 | <x>"}, now)
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# Security check of 2026-01-31 14:05 UTC\n")
    assert "`claims=2 failed=1 skipped=0`" in text
    assert "| PostgreSQL | 15, TLSv1.3 \\| &lt;x> |" in text
    assert "| a-claim | tried | holds | repelled: refused | every row |" in text
    assert "**FAILS** | THE ATTACK WORKED: every row" in text
