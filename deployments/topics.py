"""Makes the stream's topics where they are missing: `python -m deployments.topics`."""

import argparse
import asyncio
import sys

from infra.kafka.topics import ensure_topics
from infra.settings import read_settings
from schemas.errors import SluicewayError


def main() -> None:
    """Make them, and say which; exits with a sentence when it cannot."""
    argparse.ArgumentParser(prog="python -m deployments.topics", description=__doc__).parse_args()
    try:
        made = asyncio.run(ensure_topics(read_settings()))
    except SluicewayError as error:
        sys.exit(str(error))
    sys.stdout.write("".join(f"created the topic {each}\n" for each in made) or "all are there\n")


if __name__ == "__main__":
    main()
