"""`python -m bench.page RESULT.json ...`: puts what was measured into docs/benchmarks.md, with its picture."""

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.levers import best_flops
from bench.report import fill_page

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "benchmarks.md"
PICTURES = DOCS / "pictures"

COLOURS = {"stock, one by one": "#b0b0b0", "stock, whole batches": "#7a8fb8", "easel": "#d1495b"}
PEERS_COLOURS = {"Easel": "#d1495b", "LitServe": "#7a8fb8", "FastAPI + Dramatiq + Redis": "#b0b0b0"}
GIB = 1024**3


def main() -> int:
    """Fill the page with each result."""
    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "easel"})
    for path in map(Path, sys.argv[1:]):
        measured = json.loads(path.read_text(encoding="utf-8"))
        lines, draw = SECTIONS[measured["name"]]
        section = [*_where(measured), "", *lines(measured["results"])]
        if measured["targets"]:
            section += ["", *_targets(measured)]
        fill_page(PAGE, {measured["name"]: "\n".join(section)})
        figure = draw(measured["results"])
        figure.savefig(PICTURES / f"bench-{measured['name']}.svg", metadata={"Date": None})
    return 0


def _where(measured: Mapping[str, Any]) -> Iterator[str]:
    """Say how and where it was measured."""
    machine = measured["machine"]
    command = re.sub(r" --json \S+", "", measured["command"])
    versions = ", ".join(f"{name} {measured['versions'][name]}" for name in ("python", "torch", "diffusers"))
    yield (
        f"`{command}` on {machine['cores']} cores ({machine['processor']}) and "
        f"{machine['memory_bytes'] / GIB:.0f} GiB, shared with others; {versions}."
    )


def _targets(measured: Mapping[str, Any]) -> Iterator[str]:
    yield "| target | value | bound | |"
    yield "|---|--:|--:|---|"
    for target in measured["targets"]:
        sign = "≥" if target["better"] == "higher" else "≤"
        verdict = "met" if target["met"] else "**not met**"
        yield f"| {target['name']} | {target['value']:.3g} | {sign} {target['bound']:g} | {verdict} |"


def _engine(results: Mapping[str, Any]) -> Iterator[str]:
    yield "| | trace | arrivals | rows/s | pictures/s | p50 | p95 | p99 | a cancel frees after |"
    yield "|---|---|--:|--:|--:|--:|--:|--:|--:|"
    for run in results["runs"]:
        waits = " | ".join(f"{run['latency_seconds'][name]:.2f} s" for name in ("p50", "p95", "p99"))
        freed = run["cancel_to_free_seconds"]
        yield (
            f"| {run['contender']} | {run['trace']} | {run['rate']:g}x | {run['rows_per_second']:.0f} | "
            f"{run['pictures_per_second']:.2f} | {waits} | {f'{max(freed):.2f} s' if freed else ''} |"
        )
    yield ""
    ceiling = results["ceiling"]
    rates = ", ".join(f"{rate:.0f} by {rows}" for rows, rate in ceiling["rows_per_second"].items())
    yield (
        f"The ceiling, in rows a second: {rates}; where each picture is decoded too (in "
        f"{ceiling['decode_seconds'] * 1000:.0f} ms), {ceiling['best_with_decoding']:.0f}. At saturation a step had "
        f"{results['saturated']['mean_rows']:.1f} rows on average."
    )


def _draw_engine(results: Mapping[str, Any]) -> Figure:
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_throughput(left, results)
    _draw_waits(right, [run for run in results["runs"] if run["trace"] == "C" and run["rate"] == 1])
    return figure


def _draw_throughput(axes: Axes, results: Mapping[str, Any]) -> None:
    runs = [run for run in results["runs"] if run["trace"] == "C" and run["rate"] > 1]
    names = [run["contender"] for run in runs]
    bars = axes.barh(names, [run["rows_per_second"] for run in runs], color=[COLOURS[name] for name in names])
    axes.bar_label(bars, fmt="%.0f", padding=3)
    ceiling = results["ceiling"]
    for key, style, label in (("best", "-", "ceiling"), ("best_with_decoding", ":", "ceiling, with decoding")):
        axes.axvline(ceiling[key], color="black", linewidth=0.8, linestyle=style, label=label)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15 * ceiling["best"])
    axes.set_xlabel("rows a second, at saturation")
    axes.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)


def _draw_waits(axes: Axes, runs: Sequence[Mapping[str, Any]]) -> None:
    for run in runs:
        waits = run["waits_seconds"]
        shares = [(place + 1) / len(waits) for place in range(len(waits))]
        axes.step(waits, shares, where="post", color=COLOURS[run["contender"]], label=run["contender"])
    axes.set_xlim(left=0)
    axes.set_ylim(0, 1)
    axes.set_xlabel("seconds until the picture is stored, at 1x")
    axes.set_ylabel("share of requests")
    axes.legend(frameon=False, fontsize=8, loc="lower right")


def _peers(results: Mapping[str, Any]) -> Iterator[str]:
    yield "| | pictures/s | p50 | p99 | first progress | memory | lost |"
    yield "|---|--:|--:|--:|--:|--:|--:|"
    for outcome in results["outcomes"]:
        waits = " | ".join(f"{outcome['latency_seconds'][name]:.2f} s" for name in ("p50", "p99"))
        yield (
            f"| {outcome['contender']} | {outcome['pictures_per_second']:.2f} | {waits} | "
            f"{outcome['first_progress_seconds']:.2f} s | {outcome['memory_mib']:.0f} MiB | "
            f"{outcome['lost']} of {outcome['asked']} |"
        )


def _draw_peers(results: Mapping[str, Any]) -> Figure:
    figure = Figure(figsize=(9, 2.2), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    outcomes = results["outcomes"]
    names = [outcome["contender"] for outcome in outcomes]
    for place, title, values, form in (
        (axes[0], "pictures a second", [each["pictures_per_second"] for each in outcomes], "%.2f"),
        (axes[1], "seconds to the first progress", [each["first_progress_seconds"] for each in outcomes], "%.2f"),
        (axes[2], "lost, in percent", [100 * each["lost"] / each["asked"] for each in outcomes], "%.0f"),
    ):
        bars = place.barh(names, values, color=[PEERS_COLOURS[name] for name in names])
        place.bar_label(bars, fmt=form, padding=3)
        place.set_xlim(0, 1.2 * max(*values, 1e-9))
        place.set_xlabel(title)
    axes[0].invert_yaxis()
    return figure


def _levers(results: Mapping[str, Any]) -> Iterator[str]:
    counts = _row_counts(results)
    yield (
        "| a step of as many rows, in ms | " + " | ".join(map(str, counts)) + " | decoding | best TFLOP/s | of bf16's |"
    )
    yield "|---|" + "--:|" * (len(counts) + 3)
    for lever in results["levers"]:
        steps = (
            f"{1000 * lever['step_seconds'][rows]:.3g}" if rows in lever["step_seconds"] else "" for rows in counts
        )
        flops = best_flops(lever, row_flops=results["row_flops"])
        yield (
            f"| {lever['lever']} | {' | '.join(steps)} | {1000 * lever['decode_seconds']:.3g} | {flops / 1e12:.2f} | "
            f"{flops / results['peak_flops_per_second']['bfloat16']:.0%} |"
        )
    yield ""
    peaks = ", ".join(f"{flops / 1e12:.3g} in {dtype}" for dtype, flops in results["peak_flops_per_second"].items())
    row = results["row_flops"] / 1e9
    yield f"A row takes {row:.3g} GFLOP. A product of large matrices reaches, in TFLOP/s: {peaks}."


def _row_counts(results: Mapping[str, Any]) -> list[str]:
    """List the numbers of rows, which JSON has as text."""
    return sorted({rows for lever in results["levers"] for rows in lever["step_seconds"]}, key=int)


def _draw_levers(results: Mapping[str, Any]) -> Figure:
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axes = figure.subplots()
    _draw_throughput_by_rows(axes, results)
    return figure


def _draw_throughput_by_rows(axes: Axes, results: Mapping[str, Any]) -> None:
    for lever in results["levers"]:
        counts = sorted(map(int, lever["step_seconds"]))
        rates = [rows / lever["step_seconds"][str(rows)] for rows in counts]
        axes.plot(counts, rates, marker="o", markersize=3, linewidth=1, label=lever["lever"])
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, map(str, counts))
    axes.set_ylim(bottom=0)
    axes.set_xlabel(f"rows in a step ({results['model']} at {results['size_pixels']}²)")
    axes.set_ylabel("rows a second")
    axes.legend(frameon=False, fontsize=7)


def _gpu(results: Mapping[str, Any]) -> Iterator[str]:
    yield f"Drawn on one {results['device']}."
    for name, steps in results["steps"].items():
        yield ""
        yield f"**{name}** at {steps['size_pixels']} x {steps['size_pixels']}:"
        yield ""
        yield from _levers(steps)
    yield ""
    yield "| | | trace | arrivals | rows/s | pictures/s | p50 | p99 |"
    yield "|---|---|---|--:|--:|--:|--:|--:|"
    for name, runs in results["contests"].items():
        for run in runs:
            waits = " | ".join(f"{run['latency_seconds'][share]:.2f} s" for share in ("p50", "p99"))
            yield (
                f"| {name} | {run['contender']} | {run['trace']} | {run['rate']:g}x | {run['rows_per_second']:.0f} | "
                f"{run['pictures_per_second']:.2f} | {waits} |"
            )


def _draw_gpu(results: Mapping[str, Any]) -> Figure:
    figure = Figure(figsize=(4.5 * max(1, len(results["steps"])), 3.2), layout="constrained")
    every = figure.subplots(1, max(1, len(results["steps"])), squeeze=False)[0]
    for axes, steps in zip(every, results["steps"].values(), strict=False):
        _draw_throughput_by_rows(axes, steps)
    return figure


#: Each measurement's lines, and its picture.
SECTIONS: Mapping[str, tuple[Callable[[Mapping[str, Any]], Iterator[str]], Callable[[Mapping[str, Any]], Figure]]] = {
    "engine": (_engine, _draw_engine),
    "peers": (_peers, _draw_peers),
    "levers": (_levers, _draw_levers),
    "gpu": (_gpu, _draw_gpu),
}


if __name__ == "__main__":
    sys.exit(main())
