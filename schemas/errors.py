"""The errors every layer raises: their type says whether trying again can help.

A message is one sentence for a person: what is wrong, where, and what to do.
"""


class SluicewayError(Exception):
    """Base of every error this product raises on purpose."""


class TerminalError(SluicewayError):
    """Trying again changes nothing: somebody has to mend the input, a setting or a contract."""


class TransientError(SluicewayError):
    """The cause may pass: the same call, made again later, is safe and may succeed.

    `retry_after_seconds` is the least wait the other side asked for, if it named one.
    """

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        """Keep the wait beside the sentence, for whoever retries."""
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class ContractError(TerminalError):
    """A dataset's class contradicts itself; raised when the class is defined."""


class SettingError(TerminalError):
    """A setting is missing or wrong; the message names its variable."""


class RefusedError(TerminalError):
    """A whole source (a file, a response) cannot be loaded under its contract; none of it was."""


class LedgerError(TerminalError):
    """The counts of a load do not add up to what was read; the load was rolled back."""
