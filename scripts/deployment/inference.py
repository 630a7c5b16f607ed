"""The dashboard of the workers: what the devices do."""

from typing import Any

from scripts.deployment.panels import MODEL, Panel, Query, Row, dashboard, increase, mean, quantiles, rate


def inference() -> dict[str, Any]:
    """Make it."""
    return dashboard(
        "easel-inference",
        "Easel: inference",
        [
            Row(title="Is the device busy?", panels=DEVICE),
            Row(title="Batches", panels=BATCHES),
            Row(title="Attempts", panels=ATTEMPTS),
            Row(title="Pictures on their way out", panels=PICTURES),
        ],
        description="How busy devices are, and with what.",
    )


DEVICE = [
    Panel(
        title="Busy",
        description="The share of the time in which the device worked; at 100 % it never waits.",
        unit="percentunit",
        queries=[Query(expr=f"easel:device_busy:ratio5m{{{MODEL}}}", legend="{{instance}}")],
        most=1,
    ),
    Panel(
        title="With what",
        description="On average over all workers.",
        unit="percentunit",
        queries=[
            Query(
                expr=(
                    f"sum by (work) (rate(easel_device_busy_seconds_total{{{MODEL}}}[$__rate_interval])) / "
                    f"on () group_left () sum(easel:live_workers:max{{{MODEL}}} > 0)"
                ),
                legend="{{work}}",
            )
        ],
        stacked=True,
    ),
    Panel(
        title="Memory",
        unit="bytes",
        queries=[
            Query(expr=f"easel_device_memory_used_bytes{{{MODEL}}}", legend="{{instance}} taken"),
            Query(expr=f"easel_device_memory_bytes{{{MODEL}}}", legend="{{instance}} there is"),
        ],
    ),
    Panel(
        title="Slots",
        description="Requests that workers hold for drawing, and could hold.",
        queries=[
            Query(expr=f"sum(easel_slots_busy{{{MODEL}}})", legend="taken"),
            Query(expr=f"sum(easel_slots{{{MODEL}}})", legend="there are"),
        ],
    ),
    Panel(
        title="Out of memory, in 15 minutes",
        description="Such batches are taken apart, and drawn in parts.",
        queries=[Query(expr=f"easel:out_of_memory:increase15m{{{MODEL}}}", legend="{{model}}")],
    ),
    Panel(
        title="A generation keeps the device busy for",
        description="On average, batches and all.",
        unit="s",
        queries=[Query(expr=f"easel:generation_work_seconds:mean{{{MODEL}}}", legend="{{model}}")],
    ),
]

BATCHES = [
    Panel(
        title="Rows in a step",
        description="A picture has two rows with guidance, else one.",
        queries=[
            mean("easel_batch_rows", where=MODEL),
            *quantiles("easel_batch_rows", where=MODEL),
        ],
    ),
    Panel(
        title="Rows in a step, all of them",
        kind="heatmap",
        queries=[
            Query(expr=f"sum by (le) (increase(easel_batch_rows_bucket{{{MODEL}}}[$__rate_interval]))", legend="{{le}}")
        ],
    ),
    Panel(
        title="How full batches are",
        description="Rows as a share of as many as pay on the device.",
        unit="percentunit",
        queries=[mean("easel_batch_occupancy", where=MODEL)],
        most=1,
    ),
    Panel(title="How long a step takes", unit="s", queries=quantiles("easel_step_seconds", where=MODEL)),
    Panel(
        title="Steps and rows",
        unit="ops",
        queries=[
            rate("easel_steps_total", by="model", where=MODEL, legend="{{model}} steps of requests"),
            rate("easel_batch_rows_sum", by="model", where=MODEL, legend="{{model}} rows"),
        ],
    ),
    Panel(
        title="Prompts that were known",
        unit="percentunit",
        queries=[
            Query(
                expr=(
                    "sum by (model) (rate(easel_embedding_cache_lookups_total"
                    f'{{outcome="hit", {MODEL}}}[$__rate_interval])) / '
                    f"sum by (model) (rate(easel_embedding_cache_lookups_total{{{MODEL}}}[$__rate_interval]))"
                ),
                legend="{{model}}",
            )
        ],
        most=1,
    ),
]

ATTEMPTS = [
    Panel(
        title="Attempts by outcome",
        description="A dropped one was cancelled, lost or handed back.",
        unit="ops",
        queries=[rate("easel_attempts_total", by="outcome", where=MODEL)],
        stacked=True,
    ),
    Panel(
        title="Why attempts failed, in the last hour",
        kind="bargauge",
        queries=[increase("easel_attempt_failures_total", by="reason", where=MODEL)],
    ),
    Panel(
        title="Tried again, in the last hour",
        description="Returns to the queue: after a lost worker, a failure worth a retry, or a hand-back in a restart.",
        kind="bargauge",
        queries=[increase("easel_transitions_total", by="model", where=f'state="QUEUED", {MODEL}')],
    ),
    Panel(
        title="Dead letters, in the last hour",
        kind="bargauge",
        queries=[increase("easel_failures_total", by="model", where=f'reason="DEAD_LETTER", {MODEL}')],
    ),
    Panel(
        title="Claims by answer",
        unit="ops",
        queries=[rate("easel_worker_claims_total", by="answer", where=MODEL)],
        stacked=True,
    ),
]

PICTURES = [
    Panel(
        title="Files by outcome",
        unit="ops",
        queries=[rate("easel_uploads_total", by="outcome", where=MODEL)],
        stacked=True,
    ),
    Panel(title="How long it takes to store a file", unit="s", queries=quantiles("easel_upload_seconds", where=MODEL)),
    Panel(
        title="Bytes stored",
        unit="Bps",
        queries=[Query(expr=f"sum(rate(easel_upload_bytes_total{{{MODEL}}}[$__rate_interval]))", legend="stored")],
    ),
    Panel(
        title="Previews by outcome",
        unit="ops",
        queries=[rate("easel_previews_total", by="outcome", where=MODEL)],
        stacked=True,
    ),
]
