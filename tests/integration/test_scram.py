"""Passwords that PostgreSQL never sees, and lets in all the same."""

import asyncpg
import pytest

from infra.postgres.scram import make_verifier


@pytest.mark.parametrize(
    "password", ["only for tests", "Größe\u00a0\u2168\u00ad '\"\\", "\u0627b", "e\u0301\ufffd"]
)
async def test_whoever_knows_the_password_is_let_in(database, password: str) -> None:
    owner = await asyncpg.connect(database.owner_url)
    try:
        literal = await owner.fetchval("SELECT quote_literal($1::text)", make_verifier(password))
        await owner.execute(f"CREATE ROLE scram_test LOGIN PASSWORD {literal}")
        for given, is_let_in in ((password, True), (f"{password}!", False)):
            try:
                connection = await asyncpg.connect(
                    database.owner_url, user="scram_test", password=given
                )
            except asyncpg.InvalidPasswordError:
                assert not is_let_in
            else:
                await connection.close()
                assert is_let_in
    finally:
        await owner.execute("DROP ROLE IF EXISTS scram_test")
        await owner.close()
