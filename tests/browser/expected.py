"""What each page is expected to say."""

from dataclasses import dataclass

from tests.browser.history import ERROR, LETTER, LOG_LINE, ODD, SENT_BACK, History


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
        (
            f"replay_topic failed: {ERROR}",
            "kafka: no broker answers",
            "1 min 35 s",
            "sales_data",
            ODD,
            "returns_2026.csv was refused",
            "2 mails cannot be sent",
        ),
        ("Nothing is wrong that is known of.", "never loaded", "prefect deployment run"),
    ),
    "/runs": Said(
        "What happened?",
        ("daily_etl_pipeline", "Past the bars", "stream_processing_pipeline", "✕ failed", ERROR),
        ("Nothing has run yet.", "Start a run: prefect deployment run", "No run matches."),
    ),
    "/runs/{failed}": Said(
        "What did run",
        (
            "replay_topic",
            "✕ failed",
            ERROR,
            "worker-1",
            "returns_2026.csv",
            LOG_LINE,
            "marked dead",
            "process 4711 on worker-1 is gone",
        ),
        ("There is no run 1.", "To all runs"),
    ),
    "/data": Said(
        "What do we have?",
        ("warehouse.fact_sales_data", "234", "staging.loyalty_cards", "no contract"),
        ("warehouse.fact_sales_data", "as received"),
    ),
    "/quality": Said(
        "Can I trust it?",
        (
            "Pass rate by rule",
            "customers.email",
            "price: -1 is less than 0",
            ODD,
            "✕ refused",
            "24 % of the cells are missing",
            "customers_api",
        ),
        (
            "No row was checked in this time.",
            "No row is in quarantine here",
            "No load looked odd in this time.",
            "No load was profiled yet.",
        ),
    ),
    "/stream": Said(
        "Is it keeping up?",
        ("worker-2:4712", "invalid_json", LETTER),
        ("No consumer has read anything yet.", "stream_processing_pipeline"),
    ),
    "/system": Said(
        "Are the parts alive?",
        (
            "no broker answers at 127.0.0.1:9092",
            "minor upgrade",
            "99.5",
            SENT_BACK,
            "process 4711 on worker-1 is gone",
            "a newer start of the deployment waits",
        ),
        (
            "No maintenance is planned",
            "flows.check_health --every 60",
            "Nobody was told of anything",
            "The janitor never had to do anything.",
        ),
    ),
    "/logs": Said(
        "What was said?",
        (LOG_LINE, "batch 1 is committed", "a batch waits for PostgreSQL"),
        ("No line matches",),
    ),
}
AWAY = "The database is away"


def address_of(path: str, history: History) -> str:
    """Return the page's address in this database."""
    return path.format(failed=history.failed_run)
