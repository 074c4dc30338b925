"""Users and what they may do."""

from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum

from schemas.errors import SluicewayError


class OperatorsOnlyError(SluicewayError):
    """A viewer asked for what only operators may do."""


class Role(StrEnum):
    """What a user may do."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    """Also sets maintenance windows and exports the quarantine."""


@dataclass(frozen=True, slots=True)
class User:
    """Who sent a request."""

    name: str
    role: Role

    @property
    def is_operator(self) -> bool:
        """Whether they may change what the platform does."""
        return self.role is Role.OPERATOR


OPEN_USER = User("", Role.OPERATOR)
"""Everybody on this machine, where the dashboard has no users."""

_current: ContextVar[User | None] = ContextVar("user", default=None)


def current_user() -> User:
    """Return who sent the request that is being answered.

    Raises PermissionError outside of one: nothing is answered for nobody.
    """
    user = _current.get()
    if user is None:
        raise PermissionError("There is no user: this is no request that came through the login.")
    return user


def require_operator() -> User:
    """Return who sent the request; raises OperatorsOnlyError where it was not an operator."""
    user = current_user()
    if not user.is_operator:
        raise OperatorsOnlyError(
            "Only operators may do this: log in as one, or ask for the role operator in "
            "SLUICEWAY_DASHBOARD_USERS."
        )
    return user


def enter(user: User) -> None:
    """Let the rest of this request's task be the user's."""
    _current.set(user)


def leave() -> None:
    """Let the rest of the task be nobody's."""
    _current.set(None)
