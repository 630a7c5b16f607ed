from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from easel.client import Client, CorruptDownload, DownloadFailed, FailedPrecondition, NotFound, Unavailable
from easel.v1.generation_pb2 import Generation
from tests.unit.easel.scripted import ID, SUCCEEDED, Answer, FileServer, ScriptedServer, picture, status

FILE = b"picture" * 100_000
OTHER = b"PICTURE" * 100_000


def drawn(*images: Any) -> Generation:
    return Generation(id=ID, state=SUCCEEDED, images=images)


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as running_server:
        yield running_server


@pytest.fixture
async def client(server: ScriptedServer) -> AsyncIterator[Client]:
    async with Client(server.target, patience_seconds=0.5) as open_client:
        yield open_client


async def test_the_file_arrives_whole(client: Client, tmp_path: Path) -> None:
    async with FileServer(Answer(body=FILE)) as files:
        path = await client.download(drawn(picture(FILE, url=files.url())), tmp_path / "new" / "castle.png")
    assert path.read_bytes() == FILE
    assert names(path.parent) == ["castle.png"]


async def test_each_picture_by_its_index(client: Client, tmp_path: Path) -> None:
    async with FileServer(Answer(body=OTHER)) as files:
        generation = drawn(picture(FILE, url=files.url("0.png")), picture(OTHER, url=files.url("1.png"), index=1))
        await client.download(generation, tmp_path / "castle.png", index=1)
    assert files.paths == ["/1.png"]


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (Answer(body=OTHER), "SHA-256"),
        (Answer(body=FILE + b"more"), "more than 700000 bytes"),
        (Answer(body=FILE[:-1]), "699999 bytes instead of 700000"),
    ],
    ids=["other content", "too long", "too short"],
)
async def test_another_file_is_refused_and_leaves_nothing(
    client: Client, tmp_path: Path, answer: Answer, complaint: str
) -> None:
    async with FileServer(answer) as files:
        with pytest.raises(CorruptDownload, match=complaint):
            await client.download(drawn(picture(FILE, url=files.url())), tmp_path / "castle.png")
    assert names(tmp_path) == []


async def test_a_refused_download_leaves_the_older_file_alone(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "castle.png"
    path.write_bytes(b"older")
    async with FileServer(Answer(body=OTHER)) as files:
        with pytest.raises(CorruptDownload):
            await client.download(drawn(picture(FILE, url=files.url())), path)
    assert path.read_bytes() == b"older"


@pytest.mark.parametrize(
    "trouble",
    [Answer(status="503 Slow Down"), Answer(body=FILE[:1000], promised_bytes=len(FILE))],
    ids=["503", "cut off"],
)
async def test_storage_that_stumbles_is_asked_again(client: Client, tmp_path: Path, trouble: Answer) -> None:
    async with FileServer(trouble, Answer(body=FILE)) as files:
        path = await client.download(drawn(picture(FILE, url=files.url())), tmp_path / "castle.png")
    assert path.read_bytes() == FILE
    assert len(files.paths) == 2


async def test_storage_that_stays_away_is_given_up(client: Client, tmp_path: Path) -> None:
    async with FileServer(Answer()) as files:
        url = files.url()
    with pytest.raises(DownloadFailed):
        await client.download(drawn(picture(FILE, url=url)), tmp_path / "castle.png")


async def test_an_expired_url_is_signed_again(client: Client, server: ScriptedServer, tmp_path: Path) -> None:
    async with FileServer(Answer(status="403 Forbidden"), Answer(body=FILE)) as files:
        server.signed = [picture(FILE, url=files.url("fresh"))]
        await client.download(drawn(picture(FILE, url=files.url("stale"))), tmp_path / "castle.png")
    assert files.paths == ["/stale", "/fresh"]


async def test_it_is_signed_again_only_once(client: Client, server: ScriptedServer, tmp_path: Path) -> None:
    async with FileServer(Answer(status="403 Forbidden")) as files:
        server.signed = [picture(FILE, url=files.url("fresh"))]
        with pytest.raises(DownloadFailed, match="refused the signed URL"):
            await client.download(drawn(picture(FILE, url=files.url("stale"))), tmp_path / "castle.png")
    assert len(server.requests) == 1


async def test_a_picture_without_a_url_is_signed_first(client: Client, server: ScriptedServer, tmp_path: Path) -> None:
    async with FileServer(Answer(body=FILE)) as files:
        server.signed = [picture(FILE, url=files.url())]
        await client.download(drawn(picture(FILE)), tmp_path / "castle.png")
    assert len(files.paths) == 1


async def test_signing_that_fails_says_why(client: Client, server: ScriptedServer, tmp_path: Path) -> None:
    server.unary_errors.extend(status(grpc.StatusCode.UNAVAILABLE, "the database is away") for _ in range(9))
    with pytest.raises(Unavailable, match="the database is away"):
        await client.download(drawn(picture(FILE)), tmp_path / "castle.png")


async def test_a_file_that_is_gone(client: Client, tmp_path: Path) -> None:
    async with FileServer(Answer(status="404 Not Found")) as files:
        with pytest.raises(DownloadFailed, match="404 Not Found"):
            await client.download(drawn(picture(FILE, url=files.url())), tmp_path / "castle.png")


async def test_a_url_that_is_none(client: Client, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed):
        await client.download(drawn(picture(FILE, url="no url")), tmp_path / "castle.png")


async def test_no_such_picture(client: Client, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no picture 1"):
        await client.download(drawn(picture(FILE, url="http://127.0.0.1:1/")), tmp_path / "castle.png", index=1)


async def test_nothing_drawn_yet(client: Client, tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition):
        await client.download(Generation(id=ID), tmp_path / "castle.png")


@pytest.mark.parametrize("folder", [".", "/", "here"])
async def test_a_folder_is_no_place_for_a_file(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    with pytest.raises(IsADirectoryError):
        await client.download(drawn(picture(FILE, url="http://127.0.0.1:1/")), folder)


async def test_a_place_that_cannot_be_written(client: Client, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    async with FileServer(Answer(body=FILE)) as files:
        with pytest.raises(OSError, match="file"):
            await client.download(drawn(picture(FILE, url=files.url())), tmp_path / "file" / "castle.png")
