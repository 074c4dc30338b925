"""Free TCP ports on loopback."""

import secrets
import socket
from collections.abc import Collection

LOOPBACK = "127.0.0.1"
FIRST, LAST = 20_000, 32_767
"""Below the range from which systems number outgoing connections.

Within that range, a client that calls a dead server again and again can be given the server's own
port, connect to itself, and keep the server from coming back.
"""
ATTEMPTS = 50


def is_free(port: int) -> bool:
    """Whether a server could listen on that port of loopback now."""
    with socket.socket() as probe:
        # A closed connection's TIME_WAIT does not keep a server from listening.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def choose_port(preferred: int | None = None, avoid: Collection[int] = ()) -> int:
    """Return a port that is free now: the preferred one where it is, else any other than those.

    Nothing holds it until its server listens, so a server that finds it taken has to choose again.
    """
    if preferred is not None and preferred not in avoid and is_free(preferred):
        return preferred
    for _ in range(ATTEMPTS):
        port = FIRST + secrets.randbelow(LAST - FIRST + 1)
        if port not in avoid and is_free(port):
            return port
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
