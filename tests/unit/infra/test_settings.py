"""Where settings come from, which source wins, and what is said about a wrong one."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.settings import read_settings
from schemas.errors import SettingError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working folder, an environment without our variables, nothing remembered."""
    for name in [each for each in os.environ if each.upper().startswith("SLUICEWAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deployments").mkdir()
    read_settings.cache_clear()
    yield tmp_path
    read_settings.cache_clear()


def refusal() -> str:
    with pytest.raises(SettingError) as caught:
        read_settings()
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_defaults_need_nothing() -> None:
    settings = read_settings()
    assert settings.raw_folder == Path("data/raw")
    assert settings.pool_size == 20
    assert [each.dataset for each in settings.api_endpoints] == ["api_users"]
    assert settings.database_url.get_secret_value() == ""


def test_the_environment_goes_before_dotenv_and_that_before_yaml(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "deployments/settings.yaml").write_text(
        "pool_size: 5\nconcurrent_files: 5\nstaging_retention_days: 5\n"
    )
    (folder / ".env").write_text("SLUICEWAY_POOL_SIZE=6\nSLUICEWAY_CONCURRENT_FILES=6\nOTHER=1\n")
    monkeypatch.setenv("SLUICEWAY_POOL_SIZE", "7")
    settings = read_settings()
    assert (settings.pool_size, settings.concurrent_files, settings.staging_retention_days) == (
        7,
        6,
        5,
    )


def test_settings_are_read_once_and_cannot_be_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read_settings()
    monkeypatch.setenv("SLUICEWAY_POOL_SIZE", "7")
    assert read_settings() is settings
    with pytest.raises(ValueError, match="frozen"):
        settings.pool_size = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("SLUICEWAY_POOL_SIZE", "many", "valid integer"),
        ("SLUICEWAY_POOL_SIZE", "1", "greater than or equal to 2"),
        ("SLUICEWAY_POOL_SIZE", "", "valid integer"),
        ("SLUICEWAY_CONCURRENT_FILES", "21", "less than or equal to 20"),
        ("SLUICEWAY_CONNECT_TIMEOUT_SECONDS", "0", "greater than 0"),
        ("SLUICEWAY_DATABASE_URL", "mysql://host/x", "URL scheme should be 'postgres'"),
        ("SLUICEWAY_OWNER_DATABASE_URL", "nonsense", "valid URL"),
        ("SLUICEWAY_API_ENDPOINTS", '[{"url": "http://a/b", "paging": "x"}]', "'none', 'page'"),
    ],
)
def test_a_wrong_setting_is_named_by_its_variable(
    variable: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    message = refusal()
    assert message.startswith(f"The setting {variable} ")
    assert said in message


def test_a_wrong_setting_in_the_yaml_file_is_named_too(folder: Path) -> None:
    (folder / "deployments/settings.yaml").write_text("pool_size: many\n")
    assert "SLUICEWAY_POOL_SIZE" in refusal()


def test_no_message_and_no_text_holds_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICEWAY_DATABASE_URL", "mysql://user:swordfish@host/x")
    assert "swordfish" not in refusal()
    monkeypatch.setenv("SLUICEWAY_DATABASE_URL", "postgresql://user:swordfish@host/x")
    settings = read_settings()
    assert "swordfish" not in f"{settings!r} {settings}"
    assert "swordfish" in settings.database_url.get_secret_value()


def test_an_address_alone_is_an_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICEWAY_API_ENDPOINTS", '["http://127.0.0.1:9/orders"]')
    assert [each.dataset for each in read_settings().api_endpoints] == ["api_orders"]


def test_endpoints_that_are_no_json_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICEWAY_API_ENDPOINTS", "http://127.0.0.1:9/orders")
    assert "SLUICEWAY_API_ENDPOINTS" in refusal()


@pytest.mark.parametrize("text", ["pool_size: [\n", "- a\n", "pool_size: \t3\n\tx: 1\n"])
def test_a_yaml_file_that_cannot_be_read_is_one_sentence(folder: Path, text: str) -> None:
    (folder / "deployments/settings.yaml").write_text(text)
    assert "settings.yaml" in refusal()


def test_a_setting_may_stand_in_a_file_of_its_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "postgresql://u:p@127.0.0.1/d"
    for name, content in (("url", f"{url}\n"), ("to", '["a@example.com"]'), ("ca", "PEM")):
        (folder / name).write_text(content)
    monkeypatch.setenv("SLUICEWAY_DATABASE_URL_FILE", str(folder / "url"))
    monkeypatch.setenv("SLUICEWAY_MAIL_TO_FILE", str(folder / "to"))
    # This one's own name ends so: it is the file's path that is wanted.
    monkeypatch.setenv("SLUICEWAY_SMTP_CA_FILE", str(folder / "ca"))
    (folder / ".env").write_text("SLUICEWAY_DATABASE_URL=postgresql://u:p@127.0.0.1/other\n")
    settings = read_settings()
    assert settings.database_url.get_secret_value() == url
    assert settings.mail_to == ("a@example.com",)
    assert settings.smtp_ca_file == folder / "ca"


def test_the_variable_itself_goes_before_its_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "size").write_text("7")
    monkeypatch.setenv("SLUICEWAY_POOL_SIZE_FILE", str(folder / "size"))
    monkeypatch.setenv("SLUICEWAY_POOL_SIZE", "8")
    assert read_settings().pool_size == 8


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("SLUICEWAY_DATABASE_URL_FILE", "SLUICEWAY_DATABASE_URL_FILE names .*absent, which cannot"),
        ("SLUICEWAY_DATABASE_URI_FILE", "SLUICEWAY_DATABASE_URI_FILE is no setting"),
    ],
)
def test_a_file_that_is_not_there_and_a_misspelled_one_are_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    monkeypatch.setenv(name, str(folder / "absent"))
    assert re.search(said, refusal())
