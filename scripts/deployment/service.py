"""The dashboard of the service: what clients see of it."""

from typing import Any

from scripts.deployment.panels import MODEL, Panel, Query, Row, dashboard, increase, quantiles, rate

#: Streams last as long as their generation, and say nothing of how quick a gateway is.
UNARY = 'method!~".*(Watch|/Generate).*"'


def service() -> dict[str, Any]:
    """Make it."""
    return dashboard(
        "easel-service",
        "Easel: service",
        [
            Row(title="At a glance", panels=AT_A_GLANCE),
            Row(title="Calls", panels=CALLS),
            Row(title="Generations", panels=GENERATIONS),
            Row(title="Queue", panels=QUEUE),
            Row(title="Watching", panels=WATCHING),
            Row(title="What must not happen", panels=FAULTS),
            Row(title="Processes", panels=PROCESSES),
        ],
        description="Calls, generations, the queue, and what must not happen.",
    )


AT_A_GLANCE = [
    Panel(
        title="Waiting",
        kind="stat",
        queries=[Query(expr=f'sum(easel:backlog:max{{state="QUEUED", {MODEL}}})')],
        width=4,
        height=4,
    ),
    Panel(
        title="Being drawn",
        kind="stat",
        queries=[Query(expr=f'sum(easel:backlog:max{{state="RUNNING", {MODEL}}})')],
        width=4,
        height=4,
    ),
    Panel(
        title="Live workers",
        kind="stat",
        queries=[Query(expr=f"sum(easel:live_workers:max{{{MODEL}}})")],
        width=4,
        height=4,
    ),
    Panel(
        title="Oldest that waits",
        kind="stat",
        unit="s",
        queries=[Query(expr=f"max(easel:backlog_oldest_seconds:max{{{MODEL}}})")],
        width=4,
        height=4,
    ),
    Panel(
        title="Work that waits, for one worker",
        description="What autoscalers go by: seconds of a device for all that waits and runs.",
        kind="stat",
        unit="s",
        queries=[Query(expr=f"sum(easel:backlog_work_seconds:max{{{MODEL}}})")],
        width=4,
        height=4,
    ),
    Panel(
        title="Calls that end badly",
        kind="stat",
        unit="percentunit",
        queries=[Query(expr="max(easel:rpc_errors:ratio5m)")],
        width=4,
        height=4,
    ),
]

CALLS = [
    Panel(
        title="Calls by method",
        unit="reqps",
        queries=[rate("easel_rpcs_total", by="method")],
        stacked=True,
    ),
    Panel(
        title="Calls by status",
        description="INVALID_ARGUMENT, NOT_FOUND and the like are their clients' doing.",
        unit="reqps",
        queries=[rate("easel_rpcs_total", by="code")],
        stacked=True,
    ),
    Panel(title="How long unary calls take", unit="s", queries=quantiles("easel_rpc_seconds", where=UNARY)),
    Panel(
        title="p99 by method",
        kind="bargauge",
        unit="s",
        queries=[
            Query(
                expr=(f"histogram_quantile(0.99, sum by (method, le) (rate(easel_rpc_seconds_bucket{{{UNARY}}}[5m])))"),
                legend="{{method}}",
            )
        ],
        width=12,
    ),
    Panel(
        title="Calls in the last hour, by method and status",
        kind="bargauge",
        queries=[increase("easel_rpcs_total", by="method, code")],
        width=12,
    ),
]

GENERATIONS = [
    Panel(
        title="Accepted",
        unit="reqps",
        queries=[rate("easel_accepted_total", by="model", where=MODEL)],
        stacked=True,
    ),
    Panel(
        title="Changes of state",
        description="Into QUEUED go those that are tried again.",
        unit="reqps",
        queries=[rate("easel_transitions_total", by="state", where=MODEL)],
        stacked=True,
    ),
    Panel(
        title="From acceptance to the picture",
        unit="s",
        queries=quantiles("easel_generation_seconds", where=f'state="SUCCEEDED", {MODEL}'),
    ),
    Panel(
        title="How they ended, in the last hour",
        kind="bargauge",
        queries=[
            Query(
                expr=(
                    'sum by (state) (increase(easel_transitions_total{state=~"SUCCEEDED|FAILED|CANCELLED|EXPIRED", '
                    f"{MODEL}}}[1h]))"
                ),
                legend="{{state}}",
            )
        ],
        width=12,
    ),
    Panel(
        title="Why they failed, in the last hour",
        kind="bargauge",
        queries=[increase("easel_failures_total", by="reason", where=MODEL)],
        width=12,
    ),
]

QUEUE = [
    Panel(
        title="Backlog",
        queries=[
            Query(expr=f"easel:backlog:max{{{MODEL}}}", legend="{{model}} {{state}}"),
        ],
        stacked=True,
    ),
    Panel(
        title="Age of the oldest",
        unit="s",
        queries=[Query(expr=f"easel:backlog_oldest_seconds:max{{{MODEL}}}", legend="{{model}}")],
    ),
    Panel(
        title="Age when handed to the workers",
        unit="s",
        queries=quantiles("easel_dispatch_age_seconds", where=MODEL),
    ),
    Panel(
        title="Work that waits, for one worker",
        unit="s",
        queries=[Query(expr=f"easel:backlog_work_seconds:max{{{MODEL}}}", legend="{{model}}")],
    ),
    Panel(
        title="Live workers",
        queries=[Query(expr=f"easel:live_workers:max{{{MODEL}}}", legend="{{model}}")],
    ),
    Panel(
        title="Claims by answer",
        unit="reqps",
        queries=[rate("easel_claims_total", by="answer")],
        stacked=True,
    ),
]

WATCHING = [
    Panel(
        title="Open streams",
        queries=[Query(expr="sum by (instance) (easel_watchers)", legend="{{instance}}")],
        width=12,
        stacked=True,
    ),
    Panel(
        title="From a change to its watcher",
        unit="s",
        queries=quantiles("easel_watch_lag_seconds"),
        width=12,
    ),
]

FAULTS = [
    Panel(
        title="Dead letters, in 15 minutes",
        queries=[Query(expr=f"easel:dead_letters:increase15m{{{MODEL}}}", legend="{{model}}")],
    ),
    Panel(
        title="Attempts lost with their worker, in 15 minutes",
        queries=[
            Query(expr=f"sum by (model) (increase(easel_attempts_lost_total{{{MODEL}}}[15m]))", legend="{{model}}")
        ],
    ),
    Panel(
        title="Statements that PostgreSQL left unanswered",
        unit="ops",
        queries=[Query(expr="easel:database_unavailable:rate5m", legend="unanswered")],
    ),
    Panel(
        title="Connected to NATS",
        queries=[Query(expr="easel:bus_connected:min", legend="{{job}} {{instance}}")],
        most=1,
    ),
    Panel(
        title="Results by outcome",
        description="A late one changed nothing: somebody else was faster, or it was cancelled.",
        unit="reqps",
        queries=[rate("easel_results_total", by="outcome")],
        stacked=True,
    ),
    Panel(
        title="Unreadable messages and recalled results",
        queries=[
            Query(expr="easel:unreadable_messages:increase15m", legend="unreadable, in 15 minutes"),
            Query(expr="sum(increase(easel_recalled_total[15m]))", legend="recalled, in 15 minutes"),
        ],
    ),
]

PROCESSES = [
    Panel(
        title="Ready",
        description="Of the processes that there are; one that is not says at /readyz what it lacks.",
        queries=[
            Query(expr="sum by (service) (easel_ready)", legend="{{service}} ready"),
            Query(expr="sum by (service) (easel_processes)", legend="{{service}} there"),
        ],
        width=12,
    ),
    Panel(
        title="Versions",
        description="How many endpoints there are of each; in an upgrade there are two for a while.",
        queries=[Query(expr="count by (service, version) (easel_build_info)", legend="{{service}} {{version}}")],
        width=12,
        stacked=True,
    ),
]
