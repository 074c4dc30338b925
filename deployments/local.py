"""The local stack as a command: `python -m deployments.local up|down|demo`.

up: starts everything and stays until Ctrl-C, SIGTERM or `down`.
down: stops the stack of this checkout, wherever it was started.
demo: runs the daily pipeline once, on the stack that is up or one of its own, and sums it up.

With --tls, all of it speaks TLS: Debian's PostgreSQL and Apache Kafka take the place of the wheel's
PostgreSQL and the embedded broker, with data of their own.
"""

import argparse
import os
import signal
import sys
from pathlib import Path
from types import FrameType

from schemas.errors import SluicewayError

CHECKOUT = Path(__file__).absolute().parents[1]
INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code of the command; a person's mistake is one sentence on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m deployments.local",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=("up", "down", "demo"))
    parser.add_argument(
        "--tls",
        action="store_true",
        help="up, demo: nothing in clear (needs `make system-packages` and `make kafka`)",
    )
    given = parser.parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    # The imports take a second, in which Ctrl-C is to leave as quietly as later.
    from deployments.local_stack import LocalStack  # noqa: PLC0415

    local = LocalStack(CHECKOUT, is_secured=given.tls)
    try:
        return int(getattr(local, given.command)())
    except SluicewayError as error:
        sys.stderr.write(f"{error}\n")
    except ExceptionGroup as group:
        errors = [each for each in group.exceptions if isinstance(each, SluicewayError)]
        if len(errors) != len(group.exceptions):
            raise
        sys.stderr.write("".join(f"{each}\n" for each in errors))
    return 1


def _leave(_number: int, _frame: FrameType | None) -> None:
    """End at once: nothing has been started yet, and what runs elsewhere is not touched."""
    sys.stderr.write("\nInterrupted.\n")
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())
