"""The report in Markdown: each claim, what happened to the attack with and without protection."""

import datetime as dt
import platform
import ssl
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from itertools import groupby
from pathlib import Path

from tests.security.claim import Area, Verdict
from tests.security.runner import closing_line

_LIBRARIES = (
    *("asyncpg", "aiokafka", "aiosmtplib", "cryptography", "dash", "starlette", "uvicorn"),
    *("itsdangerous", "structlog"),
)
_SIGNS = {"pass": "holds", "fail": "**FAILS**", "skip": "skipped"}


def name_report(now: dt.datetime) -> Path:
    """Return where a report goes that nobody names."""
    return Path(".sluiceway") / f"security-check-{now:%Y-%m-%d-%H%M%S}.md"


def write_report(
    path: Path,
    areas: Sequence[Area],
    verdicts: Sequence[Verdict],
    facts: Mapping[str, str],
    now: dt.datetime,
) -> None:
    """Leave the report in the file; facts: what was found out about the servers, by name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(_lines(areas, verdicts, facts, now)), encoding="utf-8")


def _lines(
    areas: Sequence[Area],
    verdicts: Sequence[Verdict],
    facts: Mapping[str, str],
    now: dt.datetime,
) -> Iterable[str]:
    yield f"# Security check of {now:%Y-%m-%d %H:%M} UTC"
    yield ""
    yield f"`{closing_line(verdicts)}`"
    yield ""
    yield (
        "Each attack was made twice: on the protected service, which has to repel it for the "
        "reason that is claimed, and with the protection switched off, where it has to work. "
        "docs/security.md says against whom this protects, and against whom not."
    )
    yield ""
    yield from _table(("Part", "Version"), {**facts, **_versions()}.items())
    titles = {each.name: each.title for each in areas}
    for name, group in groupby(verdicts, key=lambda each: each.area):
        yield f"## {titles[name]}"
        yield ""
        yield from _table(
            ("Claim", "Attack", "Verdict", "Protected", "Protection off"),
            (
                (
                    each.claim.name,
                    each.claim.tried,
                    _SIGNS[each.state],
                    each.protected,
                    each.unprotected,
                )
                for each in group
            ),
        )


def _versions() -> dict[str, str]:
    libraries = {name: version(name) for name in _LIBRARIES}
    return {"Python": platform.python_version(), "OpenSSL": ssl.OPENSSL_VERSION, **libraries}


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    yield _row(head)
    yield _row(["---"] * len(head))
    yield from (_row([_escape(each) for each in row]) for row in rows)
    yield ""


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escape(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
