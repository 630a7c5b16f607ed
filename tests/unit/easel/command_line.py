"""The command line as people run it, in a process of its own, and what it prints."""

import asyncio
import fcntl
import os
import pty
import shlex
import struct
import sys
import termios
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from easel.cli.graphics import QUERY
from easel.v1.generation_pb2 import GenerationSpec, Phase, PhaseTimes
from tests.unit.easel.scripted import ID, QUEUED, RUNNING, SUCCEEDED, picture, progress, says, transition

FILE = b"a picture"

#: The leader of a session gets the first terminal that it opens; then it becomes what it is told to.
TAKE_TERMINAL = "import os, sys; os.close(os.open(os.ttyname(0), os.O_RDWR)); os.execv(sys.argv[1], sys.argv[1:])"

#: How a question to the person ends.
QUESTION = b"[y/N]: "


@dataclass(frozen=True)
class Outcome:
    """How a run of the command line ended, and what it printed."""

    status: int
    stdout: str
    stderr: str


async def easel(
    *arguments: str, folder: Path, environment: Mapping[str, str] | None = None, given: bytes = b""
) -> Outcome:
    """Run the command line to its end, with something on its standard input."""
    process = await start(*arguments, folder=folder, environment=environment)
    stdout, stderr = await process.communicate(given)
    assert process.returncode is not None
    return Outcome(process.returncode, stdout.decode(), stderr.decode())


async def in_a_shell(into: str, *arguments: str, target: str, folder: Path) -> Outcome:
    """Run the command line to its end in a shell, with its standard output going into something odd."""
    command = shlex.join([sys.executable, "-m", "easel", *arguments])
    process = await asyncio.create_subprocess_shell(
        f"{command} >{into}",
        cwd=folder,
        env={**os.environ, "EASEL_TARGET": target},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    stdout, stderr = await process.communicate()
    assert process.returncode is not None
    return Outcome(process.returncode, stdout.decode(), stderr.decode())


async def start(
    *arguments: str, folder: Path, environment: Mapping[str, str] | None = None
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "easel", *arguments),
        cwd=folder,
        env={**os.environ, "COLUMNS": "120", **(environment or {})},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def on_a_terminal(
    arguments: Sequence[str], *, folder: Path, answer: bytes = b"", replies: bytes = b"", terminate_at: bytes = b""
) -> tuple[int, str]:
    """Run the command line on a terminal; return its exit status and all that it wrote there.

    Args:
        arguments: Those of the command line.
        folder: Where it runs.
        answer: What a person types when asked a question.
        replies: What the terminal itself says when it is asked about itself.
        terminate_at: What it has written when SIGTERM comes.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 1000, 800))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", TAKE_TERMINAL, sys.executable, "-m", "easel", *arguments),
        cwd=folder,
        env={**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    written = bytearray()

    def read() -> None:
        nonlocal terminate_at
        try:
            written.extend(os.read(ours, 65536))
        except OSError:  # Linux tells so that nobody is there any more
            asyncio.get_running_loop().remove_reader(ours)
        if answer and written.endswith(QUESTION):
            os.write(ours, answer)
        if replies and QUERY in written[-len(QUERY) - 8 :]:
            os.write(ours, replies)
        if terminate_at and terminate_at in written:
            process.terminate()
            terminate_at = b""

    asyncio.get_running_loop().add_reader(ours, read)
    try:
        status = await process.wait()
        read_on = True
        while read_on:
            length = len(written)
            read()
            read_on = len(written) > length
    finally:
        asyncio.get_running_loop().remove_reader(ours)
        os.close(ours)
    return status, written.decode()


def one_line(text: str) -> str:
    """Check that a text is one line for people, and return it."""
    assert text.startswith("easel: ")
    assert text.count("\n") == 1
    assert text.endswith("\n")
    return text


def resolved(**fields: Any) -> GenerationSpec:
    spec = GenerationSpec(model="tiny", prompt="a castle", width=64, height=64, steps=20, seed=7, image_count=1)
    spec.guidance_scale = 7.5
    spec.MergeFrom(GenerationSpec(**fields))
    return spec


def drawing(
    *urls: str, generation_id: str = ID, file: bytes = FILE, between: tuple[Any, ...] = (), **fields: Any
) -> Any:
    """Play a drawing from its acceptance to its end; `fields` are of its spec."""
    times = PhaseTimes()
    times.denoising.FromMilliseconds(1500)
    images = [picture(file, url=url, index=index) for index, url in enumerate(urls)]
    of: Any = {"id": generation_id, "resolved_spec": resolved(**fields)}
    return says(
        transition(QUEUED, revision=1, **of),
        progress(0, attempt=0, phase=Phase.PHASE_UNSPECIFIED, queue_position=2),
        transition(RUNNING, revision=2, attempts=1, **of),
        *(progress(step, step_seconds=0.31) for step in range(21)),
        *between,
        progress(20, phase=Phase.PHASE_UPLOADING),
        transition(SUCCEEDED, revision=3, attempts=1, images=images, phase_times=times, **of),
    )
