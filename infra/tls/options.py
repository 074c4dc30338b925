"""The options by which a program that serves HTTP is told to serve HTTPS instead."""

import argparse
import ssl
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import SettingError


@dataclass(frozen=True, slots=True)
class Shown:
    """A certificate with its key, each in PEM; the context has read them once."""

    certificate_file: Path
    key_file: Path
    context: ssl.SSLContext


def add_options(parser: argparse.ArgumentParser) -> None:
    """Let a command be given a certificate."""
    parser.add_argument("--certificate", type=Path, help="serve HTTPS with this one, in PEM")
    parser.add_argument("--key", type=Path, help="of the certificate, in PEM")


def read_options(given: argparse.Namespace) -> Shown | None:
    """Return what the command is to show, None for HTTP; raises SettingError where it cannot."""
    certificate, key = given.certificate, given.key
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise SettingError("A certificate needs its key: give both --certificate and --key.")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:  # an SSLError is one
        raise SettingError(
            f"The certificate {certificate} with the key {key} cannot be used ({error}): name two "
            "files in PEM that belong together."
        ) from error
    return Shown(certificate, key, context)
