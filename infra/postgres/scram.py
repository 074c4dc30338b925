"""What PostgreSQL keeps of a password, made here: the password itself then stands in no statement.

A server logs statements, by `log_statement` or when they fail, passwords and all.
"""

import base64
import hashlib
import hmac
import secrets
import stringprep
import unicodedata

_ITERATIONS = 4096
"""As PostgreSQL's own; what makes a password hard to guess is its length."""
_SALT_BYTES = 16
_PROHIBITED = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def make_verifier(password: str) -> str:
    """Return what `ALTER ROLE … PASSWORD` takes in place of the password (RFC 5802, SHA-256)."""
    salt = secrets.token_bytes(_SALT_BYTES)
    salted = hashlib.pbkdf2_hmac("sha256", _prepare(password), salt, _ITERATIONS)
    stored = hashlib.sha256(_sign(salted, b"Client Key")).digest()
    keys = (salt, stored, _sign(salted, b"Server Key"))
    parts = [base64.b64encode(each).decode() for each in keys]
    return f"SCRAM-SHA-256${_ITERATIONS}:{parts[0]}${parts[1]}:{parts[2]}"


def _sign(key: bytes, text: bytes) -> bytes:
    return hmac.digest(key, text, "sha256")


def _prepare(password: str) -> bytes:
    """Return the password's bytes as clients compute with them (SASLprep, RFC 4013)."""
    if password.isascii():
        return password.encode()
    mapped = "".join(
        " " if stringprep.in_table_c12(each) else each
        for each in password
        if not stringprep.in_table_b1(each)
    )
    prepared = unicodedata.normalize("NFKC", mapped)
    # Of a password that is not allowed there, PostgreSQL and its clients take the bytes.
    is_allowed = not any(is_in(each) for each in prepared for is_in in _PROHIBITED)
    return (prepared if is_allowed and prepared else password).encode()
