"""Shows that no run is left hanging, whatever is killed: `python -m tests.chaos.dead_runs`.

    python -m tests.chaos.dead_runs [--keep] [case ...]

A real PostgreSQL, Prefect server, worker, janitor and mail process, and an SMTP server with
STARTTLS. After each case the history is true within two minutes of the janitor being up, one mail
about the run has come, what had ended before is untouched, and the next run does the rest.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

from schemas.errors import SluicewayError
from tests.chaos.dead_runs_drill import Drill, Finding, cases
from tests.chaos.dead_runs_stage import DrillError, Stage
from tests.mail_server import mail_server


def say(text: str) -> None:
    """Write a line, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def play(stage: Stage, wanted: list[str]) -> bool:
    """Return whether every case went as it should, and say how long each took."""
    drill = Drill(stage)
    good = True
    try:
        async with stage.partner.serve():
            await stage.start()
            for name, case in cases(drill).items():
                if wanted and name not in wanted:
                    continue
                try:
                    say(describe(name, await case(), case.__doc__ or ""))
                except DrillError as error:
                    say(f"{name:12} FAILED  {case.__doc__}: {error}")
                    good = False
                    break
    finally:
        stage.stop()
    return good


def describe(name: str, found: Finding, what: str) -> str:
    """Return the line of a case."""
    mail = "no mail" if found.mail_seconds is None else f"one mail {found.mail_seconds:5.1f} s"
    rest = f", next run {found.next_seconds:4.1f} s" if found.next_seconds else ""
    return (
        f"{name:12} history true {found.history_seconds:5.1f} s, {mail}{rest}  {what}: {found.said}"
    )


def main() -> int:
    """Return 0 when after each case the history was true and one mail had come."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.dead_runs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("cases", nargs="*", metavar="case", help=", ".join(NAMES))
    parser.add_argument("--keep", action="store_true", help="leave the folder with the logs")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="dead-runs-"))
    good = False
    try:
        with mail_server(folder, user="drill", password="only for the drill") as mails:
            good = asyncio.run(play(Stage(folder, mails), given.cases))
    except (SluicewayError, DrillError) as error:
        say(str(error))
    finally:
        if given.keep or not good:
            say(f"The logs are in {folder}.")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    say("no run was left hanging" if good else "not every case went as it should")
    return 0 if good else 1


NAMES = list(cases(Drill(None)))  # type: ignore[arg-type] # only their names are asked for

if __name__ == "__main__":
    sys.exit(main())
