"""Loopback ports for one stack, none of which another stack will take."""

import itertools
import random
import socket
from collections.abc import Iterator

HOST = "127.0.0.1"

#: Blocks lie below the ports which systems give to outgoing connections, so that none of those gets in between.
FIRST_BLOCK = 10_240
BLOCKS = 300
BLOCK_SIZE = 32

#: SeaweedFS puts the gRPC port of each service this far above its HTTP port.
GRPC_OFFSET = 10_000


class NoFreePort(Exception):
    """No port is left."""


class PortBlock:
    """Consecutive ports that belong to one stack for as long as it keeps the first of them bound.

    The kernel thus settles who owns a block, among all processes, and frees it when its owner dies.
    """

    def __init__(self, guard: socket.socket) -> None:
        self._guard = guard
        self.base: int = guard.getsockname()[1]
        self._left: Iterator[int] = iter(range(self.base + 1, self.base + BLOCK_SIZE))

    @classmethod
    def claim(cls, *, preferred: int | None = None) -> "PortBlock":
        """Take a block that is free, the preferred one if possible.

        Raises:
            NoFreePort: all blocks are taken.
        """
        for base in _candidates(preferred):
            guard = socket.socket()
            try:
                guard.bind((HOST, base))
            except OSError:
                guard.close()
            else:
                return cls(guard)
        raise NoFreePort(f"all ports from {FIRST_BLOCK} to {FIRST_BLOCK + BLOCKS * BLOCK_SIZE} are taken")

    def take(self) -> int:
        """Give out the next port P of which P and P + GRPC_OFFSET are free.

        Raises:
            NoFreePort: the block is used up.
        """
        for port in self._left:
            if is_free(port) and is_free(port + GRPC_OFFSET):
                return port
        raise NoFreePort(f"the ports after {self.base} are used up")

    def give_back(self, port: int) -> None:
        """Take back a port that nobody uses any more; it is given out again after all others."""
        self._left = itertools.chain(self._left, [port])

    def release(self) -> None:
        """Leave the block to others."""
        self._guard.close()


def is_free(port: int) -> bool:
    """Whether a server could listen on a loopback port now; connections that it is still forgetting do not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def _candidates(preferred: int | None) -> Iterator[int]:
    if preferred is not None:
        yield preferred
    bases = list(range(FIRST_BLOCK, FIRST_BLOCK + BLOCKS * BLOCK_SIZE, BLOCK_SIZE))
    random.shuffle(bases)
    yield from bases
