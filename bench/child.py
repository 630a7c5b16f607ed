"""A child process that measures: it is asked one JSON object a line, and answers each with another."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Self

#: An answer may hold many samples.
MAX_LINE_BYTES = 64 * 1024 * 1024


class Child:
    """The parent's end: `async with Child("bench.NAME") as child:`."""

    _process: Process

    def __init__(self, module: str, *arguments: str) -> None:
        self._module = module
        self._arguments = arguments

    async def __aenter__(self) -> Self:
        command = [sys.executable, "-m", self._module, *self._arguments]
        self._process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, limit=MAX_LINE_BYTES)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()

    async def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Ask, and wait for the answer.

        Raises:
            RuntimeError: the child has ended instead; it has said why on standard error.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question).encode() + b"\n")
        return await self.hear()

    async def hear(self) -> dict[str, Any]:
        """Wait for something that the child says unasked.

        Raises:
            RuntimeError: the child has ended instead; it has said why on standard error.
        """
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._module} ended with status {await self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def say(answer: Mapping[str, Any]) -> None:
    """Tell the parent something: the child's end."""
    print(json.dumps(answer), flush=True)


async def answer_questions(answer: Callable[[dict[str, Any]], Awaitable[Mapping[str, Any]]]) -> None:
    """Answer, one after the other, until the parent asks no more: the child's end."""
    questions = asyncio.StreamReader(limit=MAX_LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(questions), sys.stdin)
    while line := await questions.readline():
        say(await answer(json.loads(line)))
