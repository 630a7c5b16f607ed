"""The dashboard of a request's life: where its time goes, from the call to the picture."""

from typing import Any

from scripts.deployment.panels import MODEL, Panel, Query, Row, dashboard, increase, quantiles

CREATE = 'method=~".*/(Create|BatchCreate)Generations?"'
#: In the order in which they come.
PHASES = ("waiting", "encoding", "denoising", "decoding", "uploading")

FOLLOWING = """
**To follow one generation,** look for its id. Every line that either service logs about it has the field
`generation_id`; with `EASEL_LOG_FORMAT=json` a collector finds them as they are, such as
`{app="easel"} | json | generation_id="ID"`. Where traces are sent, its trace has the attribute
`easel.generation_id`, and goes from the client's call to the last event.
`easel get ID` and `easel attempts ID` tell what the record knows of it.
""".strip()


def request() -> dict[str, Any]:
    """Make it."""
    return dashboard(
        "easel-request",
        "Easel: one request's life",
        [
            Row(title="Where its time goes", panels=WHOLE),
            Row(title="From the call to a worker", panels=[*ACCEPTED, *DISPATCHED]),
            Row(title="On the worker", panels=[_phase(phase) for phase in PHASES]),
            Row(title="Back to the client", panels=BACK),
        ],
        description="Where the time of a request goes, from the call to the picture.",
    )


def _phase(phase: str) -> Panel:
    where = f'phase="{phase}", {MODEL}'
    return Panel(title=phase.capitalize(), unit="s", queries=quantiles("easel_phase_seconds", where=where))


def _phases_at(quantile: float) -> Query:
    return Query(
        expr=(f"histogram_quantile({quantile}, sum by (phase, le) (rate(easel_phase_seconds_bucket{{{MODEL}}}[5m])))"),
        legend="{{phase}}",
    )


WHOLE = [
    Panel(
        title="All of it, from acceptance to the picture",
        unit="s",
        queries=quantiles("easel_generation_seconds", where=f'state="SUCCEEDED", {MODEL}'),
    ),
    Panel(title="Phases, p50", kind="bargauge", unit="s", queries=[_phases_at(0.5)]),
    Panel(title="Phases, p99", kind="bargauge", unit="s", queries=[_phases_at(0.99)]),
    Panel(
        title="One of them",
        kind="text",
        width=24,
        height=4,
        options={"mode": "markdown", "content": FOLLOWING},
    ),
]

ACCEPTED = [
    Panel(
        title="1. Accepted: the call that makes it durable",
        unit="s",
        queries=quantiles("easel_rpc_seconds", where=CREATE),
        width=12,
    )
]

DISPATCHED = [
    Panel(
        title="2. Handed out: its age when its hint goes to the workers",
        unit="s",
        queries=quantiles("easel_dispatch_age_seconds", where=MODEL),
        width=12,
    )
]

BACK = [
    Panel(title="From a change to its watcher", unit="s", queries=quantiles("easel_watch_lag_seconds"), width=12),
    Panel(
        title="Tried again, in the last hour",
        description="Each is a return to the queue: after a lost worker, a failure worth a retry, or a hand-back.",
        kind="bargauge",
        queries=[increase("easel_transitions_total", by="model", where=f'state="QUEUED", {MODEL}')],
        width=12,
    ),
]
