"""A security claim, and its proof: the attack fails on what is protected, and works without."""

import asyncio
import inspect
import os
import re
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Literal

ATTACK_SECONDS = 60.0
"""An attack that hangs proves nothing."""
_LONGEST = 240

State = Literal["pass", "fail", "skip"]
Stage = Any
"""What an area has started for its claims: servers, databases, files."""
Target = Any
"""What an attack is made on; each claim's own."""


class FoiledError(Exception):
    """The attack came to nothing; the message says how that was seen."""


class MissingError(Exception):
    """What a claim needs is not on this machine; the message names the command that gets it."""


class UnsupportedError(Exception):
    """This machine's kernel cannot do what a claim needs; no package changes that."""


@dataclass(frozen=True, slots=True)
class Claim:
    """An attack, what it is repelled by, and the same without protection, where it works."""

    name: str
    tried: str
    """What the attacker does, for a person."""
    attack: Callable[[Target], Awaitable[str]]
    """Returns what it got; raises what stopped it."""
    protected: Callable[[Stage], Target | Awaitable[Target]]
    unprotected: Callable[[Stage], Target | Awaitable[Target]]
    repelled_by: type[BaseException] | tuple[type[BaseException], ...] = FoiledError
    """Another exception is no defence: it says that the attack was never made."""
    saying: str = ""
    """What the refusal has to say, as a regular expression."""


@dataclass(frozen=True, slots=True)
class Area:
    """Claims that stand on the same stage."""

    name: str
    title: str
    open: Callable[[Any], AbstractAsyncContextManager[Stage]]
    """Given the session; raises where the services do not serve who may be served."""
    claims: tuple[Claim, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a claim."""

    area: str
    claim: Claim
    state: State
    protected: str
    unprotected: str = ""

    @property
    def line(self) -> str:
        """The one line that the terminal shows."""
        off = f"; without protection: {self.unprotected}" if self.unprotected else ""
        return (
            f"{self.state} {self.area}/{self.claim.name}: {self.claim.tried}: {self.protected}{off}"
        )


def requires_system() -> bool:
    """Tell whether everything has to be there, as in CI."""
    return os.environ.get("SLUICEWAY_REQUIRE_SYSTEM") == "1"


async def prove(area: str, claim: Claim, stage: Stage) -> Verdict:
    """Return whether the claim holds, and could be seen not to."""
    try:
        is_repelled, told = await _attack_protected(claim, stage)
        got, without = await _attack_unprotected(claim, stage)
    except (MissingError, UnsupportedError) as error:
        return skip(area, claim, error)
    if not is_repelled:
        return Verdict(area, claim, "fail", told, without)
    if not got:
        told = f"{told}, but the check shows nothing"
    return Verdict(area, claim, "pass" if got else "fail", told, without)


def skip(area: str, claim: Claim, reason: Exception) -> Verdict:
    """Return the verdict on a claim that could not be looked at.

    What a package would mend is a failure where everything has to be there.
    """
    is_failure = isinstance(reason, MissingError) and requires_system()
    return Verdict(area, claim, "fail" if is_failure else "skip", say(reason))


def fail(area: str, claim: Claim, reason: BaseException) -> Verdict:
    """Return the verdict on a claim whose stage could not be set."""
    return Verdict(area, claim, "fail", f"it could not be tried: {name_error(reason)}")


async def _attack_protected(claim: Claim, stage: Stage) -> tuple[bool, str]:
    try:
        got = await _attack(claim, claim.protected, stage)
    except (MissingError, UnsupportedError):
        raise
    except claim.repelled_by as error:
        if not re.search(claim.saying, str(error)):
            return False, f"repelled for another reason than /{claim.saying}/: {name_error(error)}"
        return True, f"repelled: {say(error)}"
    except Exception as error:  # noqa: BLE001 - a claim that breaks is a failed claim
        return False, f"it broke, which is no defence: {name_error(error)}"
    return False, f"THE ATTACK WORKED: {_shorten(got)}"


async def _attack_unprotected(claim: Claim, stage: Stage) -> tuple[bool, str]:
    try:
        got = await _attack(claim, claim.unprotected, stage)
    except (MissingError, UnsupportedError):
        raise
    except Exception as error:  # noqa: BLE001 - as above
        return False, f"the attack does not work there either: {name_error(error)}"
    return True, _shorten(got)


async def _attack(claim: Claim, choose: Callable[[Stage], Any], stage: Stage) -> str:
    async with asyncio.timeout(ATTACK_SECONDS):
        target = choose(stage)
        if inspect.isawaitable(target):
            target = await target
        return await claim.attack(target)


def name_error(error: BaseException) -> str:
    """Return the error's type and sentence, in one line."""
    return f"{type(error).__name__}: {say(error)}"


def say(error: BaseException) -> str:
    """Return the error's sentence in one line."""
    return _shorten(str(error) or type(error).__name__)


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"
