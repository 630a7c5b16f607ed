"""`python -m tests.chaos.report FOLDER`: the sum of all outcomes in a folder, as a table and in the docs."""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.report import fill_page
from tests.chaos import outcome
from tests.chaos.schedule import Component

COUNTS = ("kills", "accepted", "lost", "doubled", "wrong")
#: Where `docs/reliability.md` takes its numbers from.
DOCS = Path(__file__).parents[2] / "docs"
PAGE, PICTURE = DOCS / "reliability.md", DOCS / "pictures" / "recovery.svg"


def main() -> int:
    """Sum up, and return the exit status: 1 when anything was found in any of the runs."""
    options = _options()
    outcomes = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(options.folder.glob("seed-*.json"))]
    if not outcomes:
        print(f"there are no outcomes in {options.folder}", file=sys.stderr)
        return 2
    merged = merge(outcomes)
    outcome.show(merged, console=Console(highlight=False))
    if options.json:
        options.json.write_text(json.dumps(merged, indent=1) + "\n", encoding="utf-8")
    if options.docs:
        compared = json.loads((options.folder / "compare.json").read_text(encoding="utf-8"))
        fill_page(PAGE, {"campaign": "\n".join(_campaign(merged)), "comparison": "\n".join(_comparison(compared))})
        _plot(merged["samples"], PICTURE)
    return 1 if merged["findings"] else 0


def merge(outcomes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Make one outcome of many."""
    samples = [sample for one in outcomes for sample in one["samples"]]
    return {
        **{name: sum(one[name] for one in outcomes) for name in COUNTS},
        "recovery_seconds": outcome.by_component(samples, "recovery_seconds"),
        "serving_seconds": outcome.by_component(samples, "serving_seconds"),
        "states": _added(one["states"] for one in outcomes),
        "attempts": _added(one["attempts"] for one in outcomes),
        "duration_seconds": round(sum(one["duration_seconds"] for one in outcomes), 1),
        "settings": outcomes[-1]["settings"],
        "findings": [finding for one in outcomes for finding in one["findings"]],
        "samples": samples,
        "strikes": [strike for one in outcomes for strike in one["strikes"]],
        "runs": [{name: one[name] for name in (*COUNTS, "seed", "command", "commit", "machine")} for one in outcomes],
    }


def _added(counts: Iterator[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = defaultdict(int)
    for one in counts:
        for name, count in one.items():
            total[name] += count
    return dict(total)


def _campaign(merged: Mapping[str, Any]) -> Iterator[str]:
    seeds = sorted({run["seed"] for run in merged["runs"]})
    loads = [run["machine"]["load_1m"] for run in merged["runs"]]
    yield (
        f"**{merged['kills']:,} kills, {merged['accepted']:,} accepted generations: {merged['lost']} lost, "
        f"{merged['doubled']} doubled, {merged['wrong']} wrong.** In {len(merged['runs'])} runs "
        f"(seeds {', '.join(map(str, seeds))}), {merged['duration_seconds'] / 3600:.1f} hours, with "
        + ", ".join(f"`{name}={value}`" for name, value in merged["settings"].items() if name.isupper())
        + f"; a kill every {merged['settings']['pace_seconds']:g} s on average, "
        + f"{merged['settings']['clients']} clients, on {merged['runs'][0]['machine']['cores']} cores that were "
        + f"shared: the load was {min(loads):.0f} to {max(loads):.0f}."
    )
    yield ""
    yield "How the generations ended, and their attempts:"
    yield ""
    for name in ("states", "attempts"):
        yield f"- {name}: " + ", ".join(f"{count:,} {key}" for key, count in sorted(merged[name].items()))
    yield ""
    yield "| component | kills | serves again, p50 | p99 | a new request is drawn, p50 | p99 |"
    yield "|---|--:|--:|--:|--:|--:|"
    for component in Component:
        kills = sum(strike["component"] == component for strike in merged["strikes"])
        times = [merged[kind].get(component, {}) for kind in ("serving_seconds", "recovery_seconds")]
        shown = [f"{time[quantile]:.2f} s" if time else "" for time in times for quantile in ("p50", "p99")]
        yield f"| {component} | {kills} | {' | '.join(shown)} |"


def _comparison(compared: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"`python -m tests.chaos.compare --seed {compared['seed']} --kills {compared['kills']}`: kill -9 of workers "
        f"and of the broker, the same for each, under {compared['clients']} clients; lost is what was accepted and "
        f"not done within {compared['patience_seconds']:g} s."
    )
    yield ""
    yield "| | accepted | lost | drawn more than once | per second | wait, p50 | p99 | longest |"
    yield "|---|--:|--:|--:|--:|--:|--:|--:|"
    for name, result in compared["contenders"].items():
        waits = [f"{result['wait_seconds'][key]:.2f} s" for key in ("p50", "p99", "max")]
        counts = [f"{result[key]:,}" for key in ("accepted", "lost", "drawn_more_than_once", "per_second")]
        yield f"| {name} | {' | '.join((*counts, *waits))} |"


def _plot(samples: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Draw a dot for each kill: how long until a request that was sent then had its picture."""
    from matplotlib.figure import Figure  # noqa: PLC0415  # takes a second, and is seldom wanted

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.add_subplot()
    actions = sorted({sample["action"] for sample in samples})
    for offset, action in enumerate(actions):
        mine = [sample for sample in samples if sample["action"] == action and sample["recovery_seconds"] is not None]
        heights = [list(Component).index(Component(sample["component"])) for sample in mine]
        axes.scatter(
            [sample["recovery_seconds"] for sample in mine],
            [height + 0.18 * (offset - (len(actions) - 1) / 2) for height in heights],
            s=8,
            alpha=0.5,
            label=action,
            linewidths=0,
        )
    axes.set_xscale("log")
    axes.set_yticks(range(len(Component)), list(Component))
    axes.invert_yaxis()
    axes.set_xlabel("seconds from the end of the outage until a request sent then had its picture")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), markerscale=2)
    figure.savefig(file, metadata={"Date": None})


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.report", description=__doc__)
    parser.add_argument("folder", type=Path, help="where `python -m tests.chaos --out` has put its outcomes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the sum there")
    parser.add_argument(
        "--docs",
        action="store_true",
        help="fill docs/reliability.md and its picture, with compare.json of `python -m tests.chaos.compare` too",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
