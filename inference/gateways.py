"""What a worker asks over NATS; any gateway answers."""

from collections.abc import Iterable

from easel import subjects
from easel.bus import Bus
from easel.v1.model_pb2 import Model
from easel.worker.v1.claim_pb2 import ClaimRequest, ClaimResponse
from easel.worker.v1.renew_pb2 import ReleaseRequest, ReleaseResponse, RenewRequest, RenewResponse
from easel.worker.v1.task_pb2 import AttemptRef

#: Well within the ack wait of a hint, 10 s: what is not answered by then is put back.
CLAIM_TIMEOUT_SECONDS = 2.0


class Gateways:
    """Speaks for one worker. Every request raises `BusUnavailable` when no gateway answered in time."""

    def __init__(self, bus: Bus, *, worker_id: str) -> None:
        self._bus = bus
        self.worker_id = worker_id

    async def claim(self, generation_id: str, *, claim_id: str) -> ClaimResponse:
        """Ask for a generation; the same claim id gets the same answer."""
        request = ClaimRequest(claim_id=claim_id, generation_id=generation_id, worker_id=self.worker_id)
        return await self._bus.request(subjects.CLAIM, request, ClaimResponse, timeout_seconds=CLAIM_TIMEOUT_SECONDS)

    async def renew(
        self, model: Model, *, slots: int, free_slots: int, attempts: Iterable[AttemptRef], timeout_seconds: float
    ) -> RenewResponse:
        """Say what the worker serves and holds, and hear what it holds no more."""
        request = RenewRequest(
            worker_id=self.worker_id, models=[model], slots=slots, free_slots=free_slots, attempts=attempts
        )
        return await self._bus.request(subjects.RENEW, request, RenewResponse, timeout_seconds=timeout_seconds)

    async def release(self, attempts: Iterable[AttemptRef], *, leaving: bool) -> None:
        """Hand attempts back, which burns none; when leaving, the worker takes no more."""
        request = ReleaseRequest(worker_id=self.worker_id, attempts=attempts, leaving=leaving)
        await self._bus.request(subjects.RELEASE, request, ReleaseResponse)
