import asyncio
import hashlib
import io
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import pytest

from dash_app.access import passwords
from dash_app.access.passwords import CHECKS_AT_A_TIME, PasswordChecks, PasswordHash, derive

GOOD = "scrypt:14:8:1:AAECAwQFBgcICQoLDA0ODw:" + "A" * 43


@pytest.mark.usefixtures("quick")
def test_a_hash_fits_its_password_alone() -> None:
    made = PasswordHash.of("correct horse battery")
    read = PasswordHash.parse(made.text)
    assert read == made
    assert read.fits("correct horse battery")
    assert not read.fits("correct horse batterz")


def test_parameters_are_those_that_owasp_recommends() -> None:
    assert PasswordHash.of("x").text.startswith("scrypt:15:8:3:")


@pytest.fixture
def quick(monkeypatch) -> None:
    """New hashes take the least that is allowed."""
    monkeypatch.setattr(passwords, "LOG_N", 14)
    monkeypatch.setattr(passwords, "PARALLEL", 1)


@pytest.mark.usefixtures("quick")
def test_two_hashes_of_one_password_differ() -> None:
    assert PasswordHash.of("same").text != PasswordHash.of("same").text


def test_a_hash_is_what_scrypt_makes_of_these_parameters() -> None:
    key = hashlib.scrypt(b"pw", salt=bytes(range(16)), n=2**14, r=8, p=1, dklen=32)
    known = PasswordHash(14, 1, bytes(range(16)), key)
    assert known.fits("pw")
    assert not PasswordHash(14, 2, bytes(range(16)), key).fits("pw")


def test_the_same_letters_fit_however_a_keyboard_writes_them() -> None:
    known = PasswordHash(14, 1, b"0" * 16, derive("Caf\u00e9", b"0" * 16, 14, 1))
    assert known.fits("Cafe\u0301")


@pytest.mark.parametrize("password", ["", "\0", "\ud800", "p" * 4000])
def test_any_text_can_be_checked(password) -> None:
    assert not PasswordHash.parse(GOOD).fits(password)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "secret",
        GOOD + "\n",
        " " + GOOD,
        GOOD.replace("14", "13"),  # guessed too fast
        GOOD.replace("14", "18"),  # takes too much memory
        GOOD.replace("14", "99"),
        GOOD.replace(":8:", ":9:"),
        GOOD.replace(":1:", ":0:"),
        GOOD.replace(":1:", ":11:"),
        GOOD.replace("14", "١٤"),  # digits, but not ours
        GOOD[:-1],
        GOOD + "A",
        GOOD.replace("AAEC", "A+EC"),
        "$2b$12$" + "a" * 53,
        "pbkdf2:sha256:600000$x$y",
    ],
)
def test_what_is_none_of_our_hashes_is_none(text) -> None:
    with pytest.raises(ValueError, match=r"no hash|bounds"):
        PasswordHash.parse(text)


def test_a_hash_can_stand_in_a_shell_and_in_a_compose_file() -> None:
    assert not set(PasswordHash.parse(GOOD).text) & set("$\"'`\\ #")


def test_nothing_of_a_hash_is_in_its_repr() -> None:
    known = PasswordHash.parse(GOOD)
    assert repr(known) == "PasswordHash(log_n=14, parallel=1)"


def test_a_dummy_costs_as_much_and_fits_nothing() -> None:
    known = PasswordHash(14, 2, b"0" * 16, derive("pw", b"0" * 16, 14, 2))
    dummy = known.dummy()
    assert (dummy.log_n, dummy.parallel) == (14, 2)
    assert not dummy.fits("pw")


def test_keys_are_compared_in_constant_time(monkeypatch) -> None:
    compared = []
    monkeypatch.setattr(passwords.hmac, "compare_digest", lambda *both: compared.append(both))
    PasswordHash.parse(GOOD).fits("pw")
    assert [len(each) for each in compared[0]] == [32, 32]


@dataclass
class Counting:
    """A hash that meets as many others at the same moment as there may be."""

    meet: threading.Barrier = field(default_factory=lambda: threading.Barrier(CHECKS_AT_A_TIME))
    lock: threading.Lock = field(default_factory=threading.Lock)
    now: int = 0
    most: int = 0
    threads: set[int] = field(default_factory=set)

    def fits(self, password: str) -> bool:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
            self.threads.add(threading.get_ident())
        self.meet.wait(timeout=60)
        with self.lock:
            self.now -= 1
        return password == "right"


async def test_two_passwords_are_checked_at_a_time_beside_the_loop() -> None:
    checks, counting = PasswordChecks(), Counting()
    known = cast("PasswordHash", counting)
    tries = ["right", "wrong"] * 4
    found = await asyncio.gather(*(checks.fits(known, each) for each in tries))
    assert found == [True, False] * 4
    assert counting.most == 2
    assert threading.get_ident() not in counting.threads


@pytest.fixture
def run(quick, monkeypatch, capsys) -> Callable[[str], str]:
    """Run the command with a line from a pipe; returns what it prints."""

    def run_command(line: str) -> str:
        monkeypatch.setattr("sys.argv", ["passwords"])
        monkeypatch.setattr("sys.stdin", io.StringIO(line))
        passwords.main()
        return str(capsys.readouterr().out)

    return run_command


@pytest.mark.parametrize("line", ["a long password\n", "a long password", "a long password\r\n"])
def test_the_command_prints_the_hash_of_a_line_from_a_pipe(run, line) -> None:
    printed = run(line)
    assert PasswordHash.parse(printed.removesuffix("\n")).fits("a long password")


@pytest.mark.parametrize("line", ["", "\n", "short\n"])
def test_the_command_refuses_a_short_password(run, line) -> None:
    with pytest.raises(SystemExit, match="at least 12 characters"):
        run(line)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def ask(monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
    given = iter(answers)
    monkeypatch.setattr("sys.argv", ["passwords"])
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr(passwords.getpass, "getpass", lambda _: next(given))
    passwords.main()


@pytest.mark.usefixtures("quick")
def test_at_a_terminal_the_command_asks_twice(monkeypatch, capsys) -> None:
    ask(monkeypatch, "a long password", "a long password")
    assert PasswordHash.parse(capsys.readouterr().out.strip()).fits("a long password")


def test_two_different_answers_are_refused(monkeypatch) -> None:
    with pytest.raises(SystemExit, match="differ"):
        ask(monkeypatch, "a long password", "a long passwort")
