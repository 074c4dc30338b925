"""python -m infra.grafana: write dashboards/*.json anew, after a change of the code beside it."""

import argparse
import json
import sys
from pathlib import Path

from infra.grafana.pipelines import PIPELINES
from infra.grafana.quality import QUALITY
from infra.grafana.render import make_dashboard
from infra.grafana.stream import STREAM
from infra.grafana.system import SYSTEM

FOLDER = Path(__file__).parent / "dashboards"


def make_files() -> dict[str, str]:
    """Return by file name what each dashboard's file holds."""
    dashboards = (PIPELINES, STREAM, QUALITY, SYSTEM)
    return {
        f"{each.uid.removeprefix('sluiceway-')}.json": json.dumps(
            make_dashboard(each), indent=2, ensure_ascii=False
        )
        + "\n"
        for each in dashboards
    }


def main() -> None:
    """Write them, and say where."""
    argparse.ArgumentParser(prog="python -m infra.grafana", description=__doc__).parse_args()
    for name, text in make_files().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        sys.stdout.write(f"{FOLDER / name} is written.\n")


if __name__ == "__main__":
    main()
