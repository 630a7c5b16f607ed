"""What each service may do on NATS; any server that Easel uses should hold its users to this."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from easel import subjects

#: What clients make of a user's name: nobody else may listen there.
INBOX_PREFIX = "_INBOX_{}"
#: Of users without a name.
COMMON_INBOX_PREFIX = "_INBOX"


@dataclass(frozen=True, kw_only=True, slots=True)
class Permissions:
    """What one user may publish and subscribe to; everything else is refused."""

    publish: Sequence[str]
    subscribe: Sequence[str]
    #: Whether it may answer what it was asked.
    allow_responses: bool = False

    def to_config(self) -> dict[str, object]:
        """Give them as NATS' configuration has them."""
        config: dict[str, object] = {
            "publish": {"allow": list(self.publish)},
            "subscribe": {"allow": list(self.subscribe)},
        }
        return {**config, "allow_responses": True} if self.allow_responses else config


def inbox_of(user: str) -> str:
    """Name the prefix of the inboxes of a user."""
    return INBOX_PREFIX.format(user) if subjects.is_token(user) else COMMON_INBOX_PREFIX


PERMISSIONS: Mapping[str, Permissions] = {
    # It makes streams and consumers, and answers workers; both nobody else.
    "gateway": Permissions(
        publish=["easel.>", "$JS.API.>", "$JS.ACK.>"],
        subscribe=["easel.>", f"{inbox_of('gateway')}.>"],
        allow_responses=True,
    ),
    # It takes hints, asks gateways, and tells of what it draws.
    "worker": Permissions(
        publish=[
            subjects.CLAIM,
            subjects.RENEW,
            subjects.RELEASE,
            subjects.ALL_RESULTS,
            subjects.ALL_PROGRESS,
            f"$JS.API.CONSUMER.MSG.NEXT.{subjects.TASKS_STREAM}.*",
            f"$JS.ACK.{subjects.TASKS_STREAM}.>",
            # To find out whether they are there; this says nothing of what is in them.
            f"$JS.API.CONSUMER.INFO.{subjects.TASKS_STREAM}.*",
            "$JS.API.STREAM.INFO.*",
            "$JS.API.INFO",
        ],
        subscribe=[subjects.CANCEL, f"{inbox_of('worker')}.>"],
    ),
}
