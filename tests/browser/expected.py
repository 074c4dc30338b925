"""What each page is expected to say."""

from dataclasses import dataclass

from tests.browser.history import ERROR, LETTER, LOG_LINE, TRACEBACK, History


@dataclass(frozen=True, slots=True)
class Said:
    """Texts of one page; `{failed}` and so on stand for a History's runs."""

    question: str
    filled: tuple[str, ...]
    """With a month behind it."""
    empty: tuple[str, ...]
    """Before anything ever ran: what to do."""


PAGES = {
    "/": Said(
        "Is all well now?",
        (f"replay_topic failed: {ERROR}", "kafka: no broker answers", "1 min 35 s", "sales_data"),
        ("Nothing is wrong that is known of.", "never loaded", "prefect deployment run"),
    ),
    "/runs": Said("Runs", (), ()),
    "/runs/{failed}": Said("Run", (), ()),
    "/data": Said("Data", (), ()),
    "/quality": Said("Quality", (), ()),
    "/stream": Said("Stream", (), ()),
    "/system": Said("System", (), ()),
    "/logs": Said("Logs", (), ()),
}
AWAY = "The database cannot be reached"


def address_of(path: str, history: History) -> str:
    """Return the page's address in this database."""
    return path.format(failed=history.failed_run)


__all__ = ["AWAY", "ERROR", "LETTER", "LOG_LINE", "PAGES", "TRACEBACK", "Said", "address_of"]
