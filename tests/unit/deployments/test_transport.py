"""What the demo says of the ways that its processes spoke, and when it calls that short."""

from collections import Counter
from dataclasses import replace

import pytest

from deployments.transport import (
    PersonalCells,
    Protection,
    Transport,
    describe_cells,
    describe_transport,
    find_transport_shortfalls,
)

AGREED = Protection("TLSv1.3", "TLS_AES_256_GCM_SHA384")
SECURED = Transport(Counter({AGREED: 12}), AGREED, "SCRAM-SHA-512", AGREED)
PLAIN = Transport(Counter({None: 12}), None, "", None)


def test_tls_is_said_with_what_was_agreed_upon() -> None:
    said = describe_transport(SECURED)
    assert said.startswith("TLS: 12 of 12 connections to PostgreSQL (TLSv1.3, TLS_AES_256_GCM")
    assert "Kafka by SASL_SSL with SCRAM-SHA-512 (TLSv1.3" in said
    assert find_transport_shortfalls(SECURED, is_secured=True) == []


def test_plain_is_said_to_be_plain_and_short_of_nothing_where_nothing_else_was_asked_for() -> None:
    said = describe_transport(PLAIN)
    assert said.startswith("plain: everything on loopback, nothing encrypted on the way (12 of 12")
    assert find_transport_shortfalls(PLAIN, is_secured=False) == []


@pytest.mark.parametrize(
    ("transport", "name"),
    [
        (replace(SECURED, connections=Counter({AGREED: 11, None: 1})), "PostgreSQL"),
        (replace(SECURED, connections=Counter()), "PostgreSQL"),
        (replace(SECURED, kafka=None), "Kafka"),
        (replace(SECURED, prefect=None), "Prefect"),
    ],
)
def test_one_way_in_clear_is_a_shortfall(transport: Transport, name: str) -> None:
    assert find_transport_shortfalls(transport, is_secured=True) == [
        f"{name} was spoken to in clear"
    ]
    assert "12 of 12" not in describe_transport(transport) or "in clear" in describe_transport(
        transport
    )


def test_cells_in_clear_are_counted_apart() -> None:
    assert describe_cells(PersonalCells(1200, 0)).endswith("1,200, each encrypted.")
    assert describe_cells(PersonalCells(1200, 3)).endswith("1,200 encrypted, 3 in clear.")
