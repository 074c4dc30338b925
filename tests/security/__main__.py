"""Breaks in, or tries to: each claim of docs/security.md, with its protection and without.

    python -m tests.security [--report FILE] [--only AREA ...]

One line a claim, and a report in Markdown. The last line is `claims=… failed=… skipped=…`. Exit
code 1 where a claim fails, with SLUICEWAY_REQUIRE_SYSTEM=1 also for want of a package.
"""

import argparse
import asyncio
import datetime as dt
import os
import signal
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import structlog

from infra.cell_keys import make_key
from tests.security.areas import AREAS
from tests.security.claim import Area
from tests.security.report import name_report, write_report
from tests.security.runner import closing_line, exit_code, run
from tests.security.session import Session

_INTERRUPTED = 130


def main() -> int:
    """Return the exit code, after the last line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.security",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--report", type=Path, help="default: .sluiceway/security-check-….md")
    names = [each.name for each in AREAS]
    parser.add_argument("--only", nargs="+", choices=names, metavar="AREA", help=", ".join(names))
    given = parser.parse_args()
    areas = [each for each in AREAS if not given.only or each.name in given.only]
    now = dt.datetime.now(dt.UTC)
    report = (given.report or name_report(now)).absolute()
    # Servers and folders are cleared away by either.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return asyncio.run(_check(areas, report, now))
    except KeyboardInterrupt:
        sys.stderr.write("Stopped; what was started is stopped too, and there is no report.\n")
        return _INTERRUPTED


async def _check(areas: list[Area], report: Path, now: dt.datetime) -> int:
    with TemporaryDirectory(prefix="sluiceway-security-") as name:
        folder = Path(name)
        folder.chmod(0o700)
        _leave_settings_behind(folder)
        # One line a claim: what the platform logs meanwhile is for the areas that look at it.
        structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
        async with Session(folder) as session:
            verdicts = await run(areas, session, _say)
        write_report(report, areas, verdicts, session.facts, now)
    _say(f"The report is in {report}.")
    _say(closing_line(verdicts))
    return exit_code(verdicts)


def _leave_settings_behind(folder: Path) -> None:
    """Let nothing that this machine is set up for take part: no variable, no `.env`."""
    for name in [each for each in os.environ if each.startswith("SLUICEWAY_")]:
        if name != "SLUICEWAY_REQUIRE_SYSTEM":
            del os.environ[name]
    for name in ("CELL_KEYS", "INDEX_KEYS"):
        os.environ[f"SLUICEWAY_{name}"] = make_key("check")
    os.chdir(folder)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
