"""What a run has to say: a file for programs, a table for people."""

import shlex
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bench.report import commit, machine, versions
from tests.chaos import checks, scale
from tests.chaos.journal import Accepted, Struck
from tests.chaos.run import Plan, Ran
from tests.chaos.schedule import Component


def summarise(ran: Ran, plan: Plan) -> dict[str, Any]:
    """Put a run into the form that is kept."""
    struck = [asdict(fact) for fact in ran.facts if isinstance(fact, Struck)]
    states = Counter(row["state"] for row in ran.evidence.generations)
    return {
        "kills": len(ran.schedule),
        "accepted": len({fact.id for fact in ran.facts if isinstance(fact, Accepted)}),
        **checks.count(ran.findings),
        "recovery_seconds": by_component(struck, "recovery_seconds"),
        "serving_seconds": by_component(struck, "serving_seconds"),
        "seed": plan.seed,
        "planned_kills": len(plan.schedule),
        "command": shlex.join(["python", "-m", "tests.chaos", *sys.argv[1:]]),
        "duration_seconds": round(ran.duration_seconds, 1),
        "settings": {**scale.SETTINGS, "pace_seconds": plan.pace_seconds, "clients": plan.clients},
        "states": dict(states),
        "attempts": dict(Counter(str(attempt["outcome"]) for attempt in ran.evidence.attempts)),
        "findings": [asdict(finding) for finding in ran.findings],
        "strikes": [asdict(strike) for strike in ran.schedule],
        "samples": struck,
        "versions": versions(),
        "machine": machine(),
        "commit": commit(),
    }


def percentiles(samples: Sequence[float]) -> dict[str, float]:
    """Give the median and the 99th percentile, both being values that occurred."""
    ordered = sorted(samples)
    return {name: round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 3) for name, share in QUANTILES}


QUANTILES = (("p50", 0.5), ("p99", 0.99))


def by_component(struck: Iterable[Mapping[str, Any]], field: str) -> Mapping[str, Mapping[str, float]]:
    """Give the percentiles of a time, for each component for which it is known."""
    times = defaultdict(list)
    for each in struck:
        if (seconds := each[field]) is not None:
            times[each["component"]].append(seconds)
    return {component: percentiles(times[component]) for component in Component if times[component]}


def show(outcome: Mapping[str, Any], *, console: Console) -> None:
    """Print the short form."""
    console.print(_recovery_table(outcome))
    told = ", ".join(f"{outcome[name]:,} {name}" for name in ("accepted", "lost", "doubled", "wrong"))
    colour = "red" if outcome["findings"] else "green"
    console.print(f"{outcome['kills']} kills in {outcome['duration_seconds']:.0f} s: [{colour}]{told}[/]")
    for finding in outcome["findings"][:SHOWN]:
        console.print(f"[red]{finding['kind']}[/]  {finding['id']}  {finding['sentence']}", soft_wrap=True)
    if len(outcome["findings"]) > SHOWN:
        console.print(f"… and {len(outcome['findings']) - SHOWN} more")


SHOWN = 20


def _recovery_table(outcome: Mapping[str, Any]) -> Table:
    table = Table(box=SIMPLE_HEAD, header_style="grey58", pad_edge=False)
    table.add_column("component")
    for name in ("kills", "serves again, p50", "p99", "draws again, p50", "p99"):
        table.add_column(name, justify="right")
    kills = Counter(strike["component"] for strike in outcome["strikes"])
    for component in Component:
        if kills[component]:
            times = [
                outcome[kind].get(component, {}).get(quantile)
                for kind in ("serving_seconds", "recovery_seconds")
                for quantile, _ in QUANTILES
            ]
            shown = ["" if seconds is None else f"{seconds:.2f} s" for seconds in times]
            table.add_row(component, str(kills[component]), *shown)
    return table
