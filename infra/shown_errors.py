"""Errors that say no secret and no personal data, to whoever shows their text as it is.

Prefect does: the text of the error that ends a run or a task is the message of its state.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from infra.redaction import redact
from schemas.errors import TerminalError


@contextmanager
def hiding_in_errors() -> Iterator[None]:
    """Let errors out of the block only with what may be shown of their texts.

    They stay what they are. One whose text cannot be changed comes out as a TerminalError with what
    may be shown of it.
    """
    try:
        yield
    except Exception as error:
        for each in _related(error):
            _hide(each)
        shown = redact(str(error))
        if shown != str(error):
            raise TerminalError(f"{type(error).__name__}: {shown}") from None
        raise


def _related(error: BaseException) -> list[BaseException]:
    """Return the error, those that led to it, and those within it; each once."""
    found: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is None or any(each is other for other in found):
            continue
        found.append(each)
        waiting += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions
    return found


def _hide(error: BaseException) -> None:
    args = tuple(_shown(each) for each in error.args)
    # Not where nothing is hidden: some errors lose what they were made of.
    if args != error.args:
        error.args = args
    for name, value in list(vars(error).items()):
        if isinstance(value, str) and (shown := redact(value)) != value:
            setattr(error, name, shown)
    if isinstance(error, OSError) and isinstance(error.strerror, str):
        error.strerror = redact(error.strerror)


def _shown(value: Any) -> Any:
    return redact(value) if isinstance(value, str) else value
