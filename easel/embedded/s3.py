import asyncio
import io
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import urllib3
from minio import Minio
from minio.error import MinioException

from easel.embedded.folder import DataFolder
from easel.embedded.ports import GRPC_OFFSET, HOST, PortBlock
from easel.embedded.process import Process, clean_environment
from easel.embedded.wheels import script

BUCKET = "easel"
#: Written and removed again to see whether it stores.
PROBE_KEY = "ready"
REGION = "us-east-1"
ANSWER_TIMEOUT_SECONDS = 2.0

#: Its data are cut into files of this size; a small disk must have room for several.
VOLUME_SIZE_MEGABYTES = 128

#: Every service inside it listens, on its own port and on the gRPC port that goes with it.
SERVICES = ("s3", "master", "volume", "filer", "admin")


class S3(Process):
    """SeaweedFS as an S3 server with one bucket and one pair of keys."""

    # Nobody uses it any more by then, and what it took in is written: it only says good-bye to its own parts.
    stop_grace_seconds = 3.0

    def __init__(self, *, folder: DataFolder, ports: PortBlock) -> None:
        super().__init__("s3", folder=folder)
        self.data = folder.path / "s3"
        self.access_key = folder.secret("s3-access-key")
        self.secret_key = folder.secret("s3-secret-key")
        self._ports = {service: ports.take() for service in SERVICES}
        self._client = self._connect()

    @property
    def endpoint(self) -> str:
        """Where it is."""
        return f"http://{HOST}:{self._ports['s3']}"

    @property
    def place(self) -> str:
        """Say where clients find it."""
        return self.endpoint

    async def start(self) -> None:
        """Start it on its folder.

        Raises:
            StackFailed: it ended, or did not become ready in time.
        """
        self.data.mkdir(exist_ok=True)
        self._remove_sockets()
        self._forget_other_ports()
        await super().start()

    def kill(self) -> None:
        """Kill it, and remove the sockets that it leaves behind."""
        super().kill()
        self._remove_sockets()

    def argv(self) -> Sequence[str]:
        """Run all of its services in one process, with nothing sent home."""
        flags: dict[str, object] = {
            "dir": self.data,
            "ip": HOST,
            "ip.bind": HOST,
            "bucket": BUCKET,
            "admin.ui": "false",
            "webdav": "false",
            "s3.iam": "false",
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "master.telemetry": "false",
            "master.volumeSizeLimitMB": VOLUME_SIZE_MEGABYTES,
            "volume.preStopSeconds": 0,
        }
        for service, port in self._ports.items():
            flags |= {f"{service}.port": port, f"{service}.port.grpc": port + GRPC_OFFSET}
        return [str(script("weed")), "mini", *(f"-{name}={value}" for name, value in flags.items())]

    def environment(self) -> Mapping[str, str]:
        """Hand over the keys, and nothing else: it reads flags from variables of their names."""
        return clean_environment(self.folder.path) | {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
        }

    async def is_ready(self) -> bool:
        """Store a file, and remove it: long before that works, it answers smaller questions."""
        try:
            await asyncio.to_thread(self._try_out)
        except (MinioException, urllib3.exceptions.HTTPError, OSError):
            return False
        return True

    def _try_out(self) -> None:
        self._client.put_object(BUCKET, PROBE_KEY, io.BytesIO(b"ready?"), len(b"ready?"))
        self._client.remove_object(BUCKET, PROBE_KEY)

    def _connect(self) -> Minio:
        return Minio(
            f"{HOST}:{self._ports['s3']}",
            access_key=self.access_key,
            secret_key=self.secret_key,
            secure=False,
            region=REGION,
            http_client=urllib3.PoolManager(timeout=ANSWER_TIMEOUT_SECONDS, retries=False),
        )

    def _forget_other_ports(self) -> None:
        """Remove the master's journals of other ports: each port has its own, made anew from the data themselves."""
        for journal in self.data.glob("m[0-9]*"):
            if journal.name != f"m{self._ports['master']}":
                shutil.rmtree(journal, ignore_errors=True)

    def _remove_sockets(self) -> None:
        """Remove the Unix sockets that a killed one leaves; they lie in /tmp whatever the settings say."""
        for port in self._ports.values():
            for number in (port, port + GRPC_OFFSET):
                for socket in Path("/tmp").glob(f"seaweedfs-*-{number}.sock"):  # noqa: S108
                    with suppress(OSError):
                        socket.unlink()
