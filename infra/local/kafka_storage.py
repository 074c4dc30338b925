"""The storage of a local Apache Kafka's nodes: formatted once, for one cluster."""

import base64
import json
import shutil
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from infra.local.folder import read_json, write_privately
from infra.local.kafka_node import Node
from schemas.errors import TerminalError


def prepare_storage(
    folder: Path, nodes: Sequence[Node], java: Sequence[str], environment: Mapping[str, str]
) -> None:
    """Leave storage that each node can start on; their properties have been written.

    What an interrupted format left is made anew. Raises TerminalError where the folder is that of
    a cluster of another size, or the format fails.
    """
    cluster_id = _identify(folder, len(nodes))
    fresh = [node for node in nodes if not node.is_formatted]
    for node in fresh:
        shutil.rmtree(node.data, ignore_errors=True)
    # All at once: most of it is Java's start.
    for tool in [_run(node.format_command(java, cluster_id), environment) for node in fresh]:
        said, _ = tool.communicate()
        if tool.returncode:
            raise TerminalError(
                f"Apache Kafka could not format its storage in {folder}: {' '.join(said.split())}"
            )


def _identify(folder: Path, count: int) -> str:
    note = folder / "cluster.json"
    known = read_json(note)
    if not known:
        # A UUID as Kafka writes it; its tools take a leading - for an option.
        fresh = "-"
        while fresh.startswith("-"):
            fresh = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        known = {"id": fresh, "nodes": count}
        write_privately(note, json.dumps(known))
    if known["nodes"] != count:
        raise TerminalError(
            f"{folder} holds an Apache Kafka of {known['nodes']} node(s), not of {count}: name "
            "another folder, or delete it to start with an empty one."
        )
    return str(known["id"])


def _run(command: list[str], environment: Mapping[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(  # noqa: S603 - Kafka's own tool, with arguments composed here
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=dict(environment),
        # Ctrl-C on the terminal is ours to handle; this ends by itself within a second or two.
        start_new_session=True,
    )
