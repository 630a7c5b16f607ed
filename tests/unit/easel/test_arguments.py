from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer

from easel.cli import arguments


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("1.5", 1.5),
        ("1.5 s", 1.5),
        ("10m", 600),
        ("10min", 600),
        ("2h", 7200),
        ("7d", 604_800),
        (" 1h ", 3600),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert arguments.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "-1", "1w", "1h30", "one", "1e3", "nan", "9" * 400, "40000d"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        arguments.seconds(text)


def test_moments_ago() -> None:
    before = datetime.now(UTC)
    assert before <= arguments.moment("2h") + timedelta(hours=2) <= datetime.now(UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31T18:00Z", datetime(2026, 1, 31, 18, tzinfo=UTC)),
        ("2026-01-31T18:00:30+02:00", datetime(2026, 1, 31, 16, 0, 30, tzinfo=UTC)),
        ("2026-01-31", datetime(2026, 1, 31).astimezone()),
        ("2026-01-31 18:00", datetime(2026, 1, 31, 18).astimezone()),
    ],
)
def test_moments(text: str, expected: datetime) -> None:
    found = arguments.moment(text)
    assert found == expected
    assert found.tzinfo is not None


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "18:00", "2026", ""])
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        arguments.moment(text)


@pytest.mark.parametrize(("text", "label"), [("a=b", ("a", "b")), ("a=", ("a", "")), ("a=b=c", ("a", "b=c"))])
def test_labels(text: str, label: tuple[str, str]) -> None:
    assert arguments.label(text) == label


@pytest.mark.parametrize("text", ["127.0.0.1:50051", "easel.example.org", "dns:///easel:50051", "unix:/run/easel"])
def test_addresses(text: str) -> None:
    assert arguments.address(text) == text


@pytest.mark.parametrize("text", ["", " ", "http://127.0.0.1:50051", "https://easel.example.org"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        arguments.address(text)


def test_a_slash_makes_a_folder(tmp_path: Path) -> None:
    assert arguments.file_or_folder(f"{tmp_path}/new/pictures/").is_dir()
    assert not arguments.file_or_folder(f"{tmp_path}/castle").exists()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "castle.png").touch()
    with pytest.raises(typer.BadParameter, match="Not a directory"):
        arguments.file_or_folder(f"{tmp_path}/castle.png/more/")
