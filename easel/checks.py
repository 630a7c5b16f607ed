"""The checks of `easel doctor` that both services share: whether NATS and the storage do what they must."""

import asyncio
import contextlib
import errno
import importlib.util
import os
import re
import ssl
import time
import uuid
from collections.abc import Iterator, Sequence
from datetime import timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit
from xml.etree import ElementTree

import httpx2
import nats.errors
import nats.js.errors
import urllib3.exceptions
from minio.error import MinioException, S3Error

from easel import objects, subjects
from easel.bus import PatientClient, address_of
from easel.finding import NOBODY_LISTENS, Finding, Verdict, no_answer
from easel.settings import Settings

TIMEOUT_SECONDS = 5.0
STREAMS = (subjects.TASKS_STREAM, subjects.RESULTS_STREAM, subjects.PROGRESS_STREAM)

_ERROR_NUMBER = re.compile(r"\[Errno (-?\d+)\] ")

#: S3 refuses requests whose clock differs by 15 minutes; long before that something is wrong.
MOST_SKEW_SECONDS = 60.0
#: A Date header is cut to whole seconds, and the answer was under way.
LEAST_SKEW_SECONDS = 3.0


async def check_nats(settings: Settings, *, with_streams: bool) -> list[Finding]:
    """Check that NATS lets us in, and, with the gateway's credentials, that the streams are there."""
    url = settings.nats_url.get_secret_value()
    place = ", ".join(urlsplit(each).netloc.rpartition("@")[2] for each in url.split(","))
    errors: list[Exception] = []

    async def keep(error: Exception) -> None:
        errors.append(error)

    client = PatientClient()
    try:
        # Its own limits hold for each of many tries.
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await client.connect(
                **address_of(url, ca_file=settings.nats_ca_file),
                name="easel-doctor",
                allow_reconnect=False,
                max_reconnect_attempts=1,
                error_cb=keep,
            )
        version = client.connected_server_version
        found = [Finding("NATS", Verdict.OK, f"{place}, version {version.major}.{version.minor}.{version.patch}")]
        return [*found, *await _check_streams(client)] if with_streams else found
    except (nats.errors.Error, OSError, TimeoutError) as error:
        why = _why(errors[0] if errors else error)
        return [Finding("NATS", Verdict.FAIL, f"{place}: {why}", "EASEL_NATS_URL says where it is, and who we are")]
    finally:
        with contextlib.suppress(nats.errors.Error, OSError):
            await client.close()


async def check_storage(settings: Settings) -> list[Finding]:
    """Check that the bucket is there, that signed URLs work, and that the clocks agree."""
    return await asyncio.to_thread(lambda: list(judge_storage(settings)))


async def check_exporters(settings: Settings) -> list[Finding]:
    """Check that traces and errors can be sent where the settings say."""
    exporters = (
        ("traces", "opentelemetry.sdk", settings.traces_endpoint),
        ("Sentry", "sentry_sdk", settings.sentry_dsn.get_secret_value()),
    )
    return [await _check_exporter(name, module=module, url=url) for name, module, url in exporters if url]


async def _check_exporter(name: str, *, module: str, url: str) -> Finding:
    place = urlsplit(url)
    host, port = place.hostname or "", place.port or (443 if place.scheme == "https" else 80)
    if not is_there(module):
        missing = "what sends them is not installed"
        return Finding(name, Verdict.FAIL, missing, "pip install 'easel[exporters]'")
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
            await writer.wait_closed()
    except (OSError, TimeoutError) as error:
        # Nothing that is asked for waits for it.
        return Finding(name, Verdict.WARN, f"{host}:{port}: {_why(error)}", "what is sent there meanwhile is lost")
    return Finding(name, Verdict.OK, f"{host}:{port} answers")


def is_there(module: str) -> bool:
    """Whether a module is installed, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


async def _check_streams(client: PatientClient) -> list[Finding]:
    jetstream = client.jetstream(timeout=TIMEOUT_SECONDS)
    missing = []
    for stream in STREAMS:
        try:
            await jetstream.stream_info(stream)
        except nats.js.errors.NotFoundError:
            missing.append(stream)
        except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
            hint = "start nats-server with `-js`, or let this user use JetStream"
            return [Finding("JetStream", Verdict.FAIL, f"it does not answer: {_why(error)}", hint)]
    if missing:
        hint = "a gateway makes them when it starts"
        return [Finding("JetStream", Verdict.WARN, f"no {', '.join(missing)} yet", hint)]
    return [Finding("JetStream", Verdict.OK, f"{len(STREAMS)} streams")]


def judge_storage(settings: Settings) -> Iterator[Finding]:
    """Make the checks of `check_storage`, one after another."""
    store = objects.connect(settings, endpoint=settings.s3_endpoint, read_timeout_seconds=TIMEOUT_SECONDS)
    place = f"bucket {settings.s3_bucket} at {settings.s3_endpoint}"
    try:
        there = store.bucket_exists(settings.s3_bucket)
    except (MinioException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        why = f"{error.code}: {error.message}" if isinstance(error, S3Error) else _why(error)
        hint = "EASEL_S3_ENDPOINT says where it is, EASEL_S3_ACCESS_KEY and EASEL_S3_SECRET_KEY open it"
        yield Finding("S3", Verdict.FAIL, f"{place}: {why}", hint)
        return
    if not there:
        yield Finding("S3", Verdict.WARN, f"no {place}", "a worker that may makes it when it starts")
        return
    yield Finding("S3", Verdict.OK, place)
    yield from _check_signed_url(settings)


def _check_signed_url(settings: Settings) -> Iterator[Finding]:
    """Fetch something that is not there: storage says so only to those whose signature it accepts."""
    endpoint = settings.s3_public_endpoint or settings.s3_endpoint
    try:
        answer = _get_signed(settings, endpoint)
    except httpx2.TransportError as error:
        why = f"{endpoint}: {_why(error)}"
        if endpoint == settings.s3_endpoint:
            yield Finding("signed URLs", Verdict.FAIL, why, "EASEL_S3_ENDPOINT says where the storage is")
            return
        # Clients are elsewhere, and so may their way be: from inside a container, theirs is often none.
        hint = "EASEL_S3_PUBLIC_ENDPOINT is where clients reach the storage; from here it is out of reach"
        yield Finding("public endpoint", Verdict.WARN, why, hint)
        yield from _check_signed_url(settings.model_copy(update={"s3_public_endpoint": ""}))
        return
    yield judge_signature(answer, endpoint)
    yield from judge_clock(answer)


def _get_signed(settings: Settings, endpoint: str) -> httpx2.Response:
    signer = objects.connect(settings, endpoint=endpoint)
    key = f"doctor/{uuid.uuid4()}"
    url = signer.presigned_get_object(settings.s3_bucket, key, expires=timedelta(minutes=1))
    trusted = ssl.create_default_context(cafile=settings.s3_ca_file or None)
    return httpx2.get(url, timeout=TIMEOUT_SECONDS, verify=trusted)


def judge_signature(answer: httpx2.Response, endpoint: str) -> Finding:
    """Judge by what storage says of something that is not there whether it took the signature."""
    code = _s3_code(answer.text)
    if answer.status_code == httpx2.codes.NOT_FOUND and code != "NoSuchBucket":
        return Finding("signed URLs", Verdict.OK, f"{endpoint} takes them")
    if code == "AccessDenied":
        hint = "it may be that this key may not list the bucket, and then nothing is wrong"
        return Finding("signed URLs", Verdict.WARN, f"{endpoint} tells nothing of what is not there", hint)
    hint = "a proxy before the storage must leave host and path as they are; EASEL_S3_REGION must be the storage's"
    return Finding("signed URLs", Verdict.FAIL, f"{endpoint} answers {answer.status_code} {code}", hint)


def judge_clock(answer: httpx2.Response) -> Iterator[Finding]:
    """Compare the clock of an answer with ours."""
    try:
        theirs = parsedate_to_datetime(answer.headers["Date"]).timestamp()
    except (KeyError, ValueError):
        return
    skew_seconds = abs(time.time() - theirs)
    if skew_seconds > MOST_SKEW_SECONDS:
        hint = "set the clocks by NTP: signatures are refused at 15 minutes"
        yield Finding("clock", Verdict.FAIL, f"{skew_seconds:.0f} s apart from the storage's", hint)
    elif skew_seconds > LEAST_SKEW_SECONDS:
        yield Finding("clock", Verdict.WARN, f"{skew_seconds:.0f} s apart from the storage's", "set the clocks by NTP")
    else:
        yield Finding("clock", Verdict.OK, "the storage's agrees")


def _s3_code(body: str) -> str:
    """Take the code out of the XML of an S3 error; empty when it is something else."""
    try:
        return ElementTree.fromstring(body).findtext("Code") or ""  # noqa: S314  # what our own storage sent
    except ElementTree.ParseError:
        return ""


def _why(error: Exception) -> str:
    """Say what is wrong in the words of what is at the bottom of it, not of the libraries above."""
    bottom: BaseException = error
    while bottom.__cause__ is not None:
        bottom = bottom.__cause__
    if isinstance(error, TimeoutError | httpx2.TimeoutException) or isinstance(bottom, TimeoutError):
        return no_answer(TIMEOUT_SECONDS)
    line = (str(bottom).strip().splitlines() or [type(bottom).__name__])[0]
    if number := _ERROR_NUMBER.search(line):
        code = int(number[1])
        # asyncio's own words name the call and not what is wrong; the resolver's numbers are below 0.
        line = os.strerror(code) if code > 0 else line[number.end() :]
    return NOBODY_LISTENS if line == os.strerror(errno.ECONNREFUSED) else line


def in_order(parts: Sequence[list[Finding]]) -> list[Finding]:
    """Put the findings of several checks one after another."""
    return [finding for part in parts for finding in part]
