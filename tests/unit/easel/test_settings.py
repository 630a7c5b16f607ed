from pathlib import Path

import pytest
from pydantic import ValidationError

from easel.settings import Settings, split_address


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_they_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EASEL_NATS_URL", "nats://elsewhere:4222")
    assert Settings.read().nats_url.get_secret_value() == "nats://elsewhere:4222"


def test_they_come_from_a_file_too_and_the_environment_goes_first(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (empty_folder / ".env").write_text("EASEL_S3_BUCKET=filed\nEASEL_S3_REGION=filed\nOTHERS=ignored\n")
    monkeypatch.setenv("EASEL_S3_REGION", "environment")
    settings = Settings.read()
    assert (settings.s3_bucket, settings.s3_region) == ("filed", "environment")


def test_they_never_change() -> None:
    with pytest.raises(ValidationError):
        Settings.read().s3_bucket = "another"  # type: ignore[misc]


def test_the_secret_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EASEL_S3_SECRET_KEY", "hush")
    settings = Settings.read()
    assert "hush" not in repr(settings) + str(settings)
    assert settings.s3_secret_key.get_secret_value() == "hush"


def test_levels_are_taken_in_either_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EASEL_LOG_LEVEL", "debug")
    assert Settings.read().log_level == "DEBUG"


def test_every_wrong_setting_gets_one_line_and_the_process_ends_with_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EASEL_LOG_FORMAT", "xml")
    monkeypatch.setenv("EASEL_LOG_LEVEL", "LOUD")
    monkeypatch.setenv("EASEL_LOG_ROTATION", "now and then")
    monkeypatch.setenv("EASEL_LOG_RETENTION", "-1")
    with pytest.raises(SystemExit) as raised:
        Settings.read()
    assert raised.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    names = ["EASEL_LOG_FORMAT", "EASEL_LOG_LEVEL", "EASEL_LOG_RETENTION", "EASEL_LOG_ROTATION"]
    assert sorted(line.split(":")[0] for line in lines) == names
    assert "EASEL_LOG_ROTATION: a rotation looks like `100 MB`, `1 day` or `00:00`" in lines


@pytest.mark.parametrize(
    ("address", "parts"),
    [("127.0.0.1:9464", ("127.0.0.1", 9464)), ("[::]:0", ("::", 0)), ("gateway:65535", ("gateway", 65535))],
)
def test_addresses_are_a_host_and_a_port(address: str, parts: tuple[str, int]) -> None:
    assert split_address(address) == parts


@pytest.mark.parametrize("address", ["", "gateway", ":9464", "gateway:", "gateway:http", "gateway:65536", "gateway:-1"])
def test_nothing_else_is_an_address(address: str) -> None:
    with pytest.raises(ValueError, match="an address looks like host:port"):
        split_address(address)
