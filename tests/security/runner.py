"""Proves the claims of all areas, one after the other, and says a line about each."""

from collections.abc import Callable, Iterable, Sequence

from tests.security.claim import (
    Area,
    MissingError,
    UnsupportedError,
    Verdict,
    fail,
    prove,
    skip,
)

Say = Callable[[str], None]


async def run(areas: Iterable[Area], session: object, say: Say) -> list[Verdict]:
    """Return the verdict on each claim; what goes wrong is a failed claim and no crash."""
    return [verdict for area in areas for verdict in await _prove_area(area, session, say)]


async def _prove_area(area: Area, session: object, say: Say) -> list[Verdict]:
    verdicts: list[Verdict] = []

    def tell(verdict: Verdict) -> None:
        say(verdict.line)
        verdicts.append(verdict)

    try:
        async with area.open(session) as stage:
            for claim in area.claims:
                tell(await prove(area.name, claim, stage))
    except (MissingError, UnsupportedError) as error:
        for claim in area.claims[len(verdicts) :]:
            tell(skip(area.name, claim, error))
    except Exception as error:  # noqa: BLE001 - the other areas are looked at all the same
        if len(verdicts) == len(area.claims):
            # The stage did not come down as it should: its last claim answers for it.
            verdicts.pop()
        for claim in area.claims[len(verdicts) :]:
            tell(fail(area.name, claim, error))
    return verdicts


def closing_line(verdicts: Sequence[Verdict]) -> str:
    """Return `claims=N failed=F skipped=K`."""
    failed, skipped = (sum(each.state == state for each in verdicts) for state in ("fail", "skip"))
    return f"claims={len(verdicts)} failed={failed} skipped={skipped}"


def exit_code(verdicts: Sequence[Verdict]) -> int:
    """Return 0 where no claim fails; where nothing was looked at, nothing holds."""
    return int(all(each.state == "skip" for each in verdicts) or _has_failed(verdicts))


def _has_failed(verdicts: Sequence[Verdict]) -> bool:
    return any(each.state == "fail" for each in verdicts)
