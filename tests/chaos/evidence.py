"""What the database and the bucket hold at the end."""

import asyncio
import hashlib
import io
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import psycopg
from minio import Minio
from minio.error import S3Error
from PIL import Image
from psycopg.rows import dict_row

from easel import objects
from easel.settings import Settings
from inference.engine.engine import DrawRequest
from tests.scripted.adapter import pixels_of

Row = Mapping[str, Any]

#: How many objects are read at the same time.
READERS = 8

GENERATIONS = """
    SELECT id::text, request_id, state, revision, attempt, lease_expire_time::text, images,
           failure ->> 'reason' AS reason, resolved_spec ->> 'prompt' AS prompt
    FROM generations ORDER BY id
"""
ATTEMPTS = (
    "SELECT generation_id::text AS id, number, object_prefix, outcome FROM attempts ORDER BY generation_id, number"
)
EVENTS = "SELECT generation_id::text AS id, revision, state, attempt FROM events ORDER BY generation_id, revision"
DELETIONS = "SELECT object_prefix FROM object_deletions ORDER BY object_prefix"
UNREADABLE = "SELECT subject, error FROM unreadable_messages ORDER BY id"


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredObject:
    """An object that a generation refers to, as it was read from the bucket."""

    sha256: str
    size_bytes: int
    #: Whether it shows what the prompt and the seed of its generation ask for.
    is_as_asked: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """Everything that is to be known once all has come to rest."""

    generations: Sequence[Row]
    attempts: Sequence[Row]
    events: Sequence[Row]
    #: The prefixes that are to be deleted.
    object_deletions: Sequence[str]
    #: Messages that a gateway could not read: subject and error.
    unreadable_messages: Sequence[Row] = ()
    #: By key; without those that are not there.
    objects: Mapping[str, StoredObject] = field(default_factory=dict)

    def write(self, file: Path) -> None:
        """Keep it."""
        file.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read what was kept."""
        kept = json.loads(file.read_text(encoding="utf-8"))
        kept["objects"] = {key: StoredObject(**stored) for key, stored in kept["objects"].items()}
        return cls(**kept)


async def count_unfinished(database_url: str) -> int:
    """Count the generations that are not final yet."""
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        counted = await connection.execute("SELECT count(*) FROM generations WHERE state IN ('QUEUED', 'RUNNING')")
        row = await counted.fetchone()
    return int(row[0]) if row else 0


async def collect(database_url: str, settings: Settings, *, request_ids: Collection[str] | None = None) -> Evidence:
    """Read the record in one snapshot, and then every object that it refers to.

    Args:
        database_url: Where the record is.
        settings: Where the objects are.
        request_ids: What to look at, where others ask for things too; everything when None.
    """
    async with await psycopg.AsyncConnection.connect(database_url, row_factory=dict_row) as connection:
        await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        rows: Mapping[str, Sequence[Row]] = {
            name: [dict(row) for row in await (await connection.execute(query)).fetchall()]
            for name, query in (
                ("generations", GENERATIONS),
                ("attempts", ATTEMPTS),
                ("events", EVENTS),
                ("object_deletions", DELETIONS),
                ("unreadable_messages", UNREADABLE),
            )
        }
    if request_ids is not None:
        rows = _only(rows, request_ids)
    return Evidence(
        generations=rows["generations"],
        attempts=rows["attempts"],
        events=rows["events"],
        object_deletions=[row["object_prefix"] for row in rows["object_deletions"]],
        unreadable_messages=rows["unreadable_messages"],
        objects=await _read_objects(rows["generations"], settings),
    )


def _only(rows: Mapping[str, Sequence[Row]], request_ids: Collection[str]) -> Mapping[str, Sequence[Row]]:
    generations = [row for row in rows["generations"] if row["request_id"] in request_ids]
    ids = {row["id"] for row in generations}
    return {
        "generations": generations,
        "attempts": [row for row in rows["attempts"] if row["id"] in ids],
        "events": [row for row in rows["events"] if row["id"] in ids],
        "object_deletions": rows["object_deletions"],
        "unreadable_messages": [row for row in rows["unreadable_messages"] if row["subject"].rpartition(".")[2] in ids],
    }


async def _read_objects(generations: Sequence[Row], settings: Settings) -> Mapping[str, StoredObject]:
    minio = objects.connect(settings, endpoint=settings.s3_endpoint)
    readers = asyncio.Semaphore(READERS)
    found: dict[str, StoredObject] = {}

    async def read(generation: Row, stored: Row) -> None:
        async with readers:
            data = await asyncio.to_thread(_read_object, minio, settings.s3_bucket, stored["object_key"])
        if data is not None:
            found[stored["object_key"]] = StoredObject(
                sha256=hashlib.sha256(data).hexdigest(),
                size_bytes=len(data),
                is_as_asked=_shows(data, prompt=generation["prompt"], seed=int(stored["image"].get("seed", 0))),
            )

    async with asyncio.TaskGroup() as group:
        for generation in generations:
            for stored in generation["images"] or ():
                group.create_task(read(generation, stored))
    return found


def _read_object(minio: Minio, bucket: str, key: str) -> bytes | None:
    try:
        answer = minio.get_object(bucket, key)
    except S3Error as error:
        if error.code == "NoSuchKey":
            return None
        raise
    try:
        return bytes(answer.read())
    finally:
        answer.close()
        answer.release_conn()


def _shows(data: bytes, *, prompt: str, seed: int) -> bool:
    """Whether a file is the picture that a scripted model draws for a prompt and a seed."""
    with Image.open(io.BytesIO(data)) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    request = DrawRequest(
        prompt=prompt,
        negative_prompt="",
        width=pixels.shape[1],
        height=pixels.shape[0],
        steps=1,
        guidance_scale=1,
        seed=seed,
        image_count=1,
        scheduler="",
    )
    return np.array_equal(pixels, pixels_of(request, seed=seed))
