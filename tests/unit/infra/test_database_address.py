"""A database's address: whom it is sent to, and how it is made sure who answers."""

import ssl
from pathlib import Path

import pytest

from infra.postgres.connection import split_url
from infra.tls.authority import Authority
from schemas.errors import SettingError

REMOTE = "postgresql://u:p@db.example:5432/warehouse"


@pytest.mark.parametrize("parameters", ["", "?sslmode=verify-full"])
def test_another_machine_is_always_checked_by_certificate_and_name(parameters: str) -> None:
    address, context = split_url(REMOTE + parameters)
    assert address == REMOTE
    assert context is not None
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require", "verify-ca", "nonsense"])
def test_nothing_less_is_taken_for_another_machine(mode: str) -> None:
    with pytest.raises(SettingError, match=rf"db\.example asks for sslmode={mode}"):
        split_url(f"{REMOTE}?sslmode={mode}")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_this_machine_may_be_spoken_to_in_clear_unless_asked(host: str) -> None:
    url = f"postgresql://u:p@{host}:5432/d"
    assert split_url(url)[1] is None
    for mode in ("require", "verify-ca", "verify-full"):
        context = split_url(f"{url}?sslmode={mode}")[1]
        assert context is not None
        assert context.check_hostname


def test_a_ca_of_ones_own_is_the_only_one_then(tmp_path: Path) -> None:
    ca = Authority(tmp_path).certificate_file
    context = split_url(f"{REMOTE}?sslrootcert={ca}")[1]
    assert context is not None
    assert len(context.get_ca_certs()) == 1
    with pytest.raises(SettingError, match=r"names .*absent\.pem as sslrootcert"):
        split_url(f"{REMOTE}?sslrootcert={tmp_path}/absent.pem")
