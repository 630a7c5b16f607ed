"""What a gateway takes for a setting."""

from datetime import timedelta

import pytest

from gateway.settings import GatewaySettings


def test_a_retention_may_last_a_century_and_no_longer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EASEL_DATABASE_URL", "postgresql://localhost/easel")
    monkeypatch.setenv("EASEL_RETENTION_DAYS", "36500")
    assert GatewaySettings.read(_env_file=None).retention is not None
    # Times of the year 12,000 can be stored and never be read again.
    for days in ("4000000", "inf"):
        monkeypatch.setenv("EASEL_RETENTION_DAYS", days)
        with pytest.raises(SystemExit):
            GatewaySettings.read(_env_file=None)
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("EASEL_RETENTION_DAYS: ")


def test_pictures_outlive_their_generation_by_an_hour_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EASEL_DATABASE_URL", "postgresql://localhost/easel")
    monkeypatch.setenv("EASEL_BACKUP_DAYS", "0")
    assert GatewaySettings.read(_env_file=None).backup_age == timedelta(hours=1)
    monkeypatch.setenv("EASEL_BACKUP_DAYS", "2")
    assert GatewaySettings.read(_env_file=None).backup_age == timedelta(days=2)
