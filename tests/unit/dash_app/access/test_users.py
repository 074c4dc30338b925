from contextvars import copy_context

import pytest

from dash_app.access.users import (
    OperatorsOnlyError,
    Role,
    User,
    current_user,
    enter,
    leave,
    require_operator,
)
from schemas.errors import SluicewayError


def test_outside_a_request_there_is_nobody() -> None:
    with pytest.raises(PermissionError, match="no user"):
        current_user()
    with pytest.raises(PermissionError, match="no user"):
        require_operator()


def test_who_entered_is_the_user_until_they_leave() -> None:
    def visit() -> None:
        enter(User("ada", Role.VIEWER))
        assert current_user() == User("ada", Role.VIEWER)
        leave()
        with pytest.raises(PermissionError):
            current_user()

    copy_context().run(visit)


def test_viewers_are_told_that_only_operators_may() -> None:
    def visit() -> None:
        enter(User("ada", Role.VIEWER))
        require_operator()

    with pytest.raises(OperatorsOnlyError, match="log in as one") as told:
        copy_context().run(visit)
    assert isinstance(told.value, SluicewayError)  # so that panels show its sentence


def test_operators_may() -> None:
    def visit() -> User:
        enter(User("otto", Role.OPERATOR))
        return require_operator()

    assert copy_context().run(visit) == User("otto", Role.OPERATOR)
