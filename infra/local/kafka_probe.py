"""Which brokers a broker knows, asked over one short connection, without an event loop."""

import socket
import struct

from aiokafka.protocol.api import RequestHeader_v1
from aiokafka.protocol.metadata import MetadataRequest_v1, MetadataResponse_v1

from infra.local.ports import LOOPBACK

TIMEOUT_SECONDS = 2.0
LENGTH = struct.Struct(">i")


def list_brokers(port: int) -> frozenset[int]:
    """Return the ids of the brokers that the one on that port knows to live.

    None of them while it does not answer: it may be starting, gone or frozen.
    """
    request = MetadataRequest_v1(topics=[])
    body = RequestHeader_v1(request).encode() + request.encode()
    try:
        with socket.create_connection((LOOPBACK, port), TIMEOUT_SECONDS) as connection:
            connection.sendall(LENGTH.pack(len(body)) + body)
            with connection.makefile("rb") as stream:
                (length,) = LENGTH.unpack(stream.read(LENGTH.size))
                answer = stream.read(length)
        metadata = MetadataResponse_v1.decode(answer[LENGTH.size :])  # after the request's number
    except (OSError, struct.error, ValueError):  # refused, timed out, or ended half-way
        return frozenset()
    return frozenset(broker[0] for broker in metadata.brokers)
