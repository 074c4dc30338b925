"""What an error says once it has left a flow."""

import pytest
from pydantic import BaseModel, ValidationError

from infra.redaction import MASK, hide_password_of
from infra.shown_errors import hiding_in_errors
from schemas.errors import TerminalError, TransientError

SECRET = "a-secret-in-errors"
ADDRESS = f"postgresql://loader:{SECRET}@db.example/x"


@pytest.fixture(autouse=True)
def _known() -> None:
    hide_password_of(ADDRESS)


class _Sized(BaseModel):
    size: int


def fail(error: BaseException) -> BaseException:
    """Return what comes out of the block when the error is raised in it."""
    with pytest.raises(BaseException) as caught, hiding_in_errors():  # noqa: PT011 - whatever it is
        raise error
    return caught.value


def test_an_error_stays_itself_and_loses_the_secret() -> None:
    given = TransientError(f"cannot reach {ADDRESS}", retry_after_seconds=3)
    error = fail(given)
    assert error is given
    assert str(error) == f"cannot reach {MASK}"
    assert given.retry_after_seconds == 3


def test_what_led_to_it_loses_it_too_and_may_go_round_in_a_circle() -> None:
    first, second = ValueError(SECRET), KeyError(f"no {SECRET}", 7)
    second.__cause__, first.__context__ = first, second
    assert fail(second).args == (f"no {MASK}", 7)
    assert first.args == (MASK,)
    group = ExceptionGroup("two", [ValueError(SECRET), OSError(2, f"no {SECRET}")])
    fail(group)
    assert [str(each) for each in group.exceptions] == [MASK, f"[Errno 2] no {MASK}"]


def test_one_that_cannot_be_changed_is_replaced() -> None:
    try:
        _Sized.model_validate({"size": SECRET})
    except ValidationError as given:
        error = fail(given)
    assert isinstance(error, TerminalError)
    assert "Input should be a valid integer" in str(error)
    assert SECRET not in str(error)


def test_an_error_without_a_secret_is_not_touched() -> None:
    error = fail(FileNotFoundError(2, "No such file", "/data/raw"))
    assert str(error) == "[Errno 2] No such file: '/data/raw'"
