"""The embedded stack: real PostgreSQL, NATS and S3 from wheels, with gateways and workers, as child processes.

`Servers` are the three servers alone; a `Stack` is everything. All their data, logs and state lie in one folder.
"""

from easel.embedded.failure import StackFailed
from easel.embedded.process import Process
from easel.embedded.servers import Servers
from easel.embedded.stack import Stack

__all__ = ["Process", "Servers", "Stack", "StackFailed"]
