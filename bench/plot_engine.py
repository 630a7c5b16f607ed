"""`python -m bench.plot_engine RESULT.json PICTURE.svg`: what `bench.engine` measured, as a picture."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot
from matplotlib.axes import Axes

COLOURS = {"stock, one by one": "#b0b0b0", "stock, whole batches": "#7a8fb8", "easel": "#d1495b"}


def main() -> int:
    """Draw the picture."""
    source, target = map(Path, sys.argv[1:])
    measured = json.loads(source.read_text(encoding="utf-8"))["results"]
    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "easel"})
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    _draw_throughput(left, measured)
    _draw_waits(right, [run for run in measured["runs"] if run["trace"] == "C" and run["rate"] == 1])
    figure.savefig(target, metadata={"Date": None})
    return 0


def _draw_throughput(axes: Axes, measured: Mapping[str, Any]) -> None:
    runs = [run for run in measured["runs"] if run["trace"] == "C" and run["rate"] > 1]
    names = [run["contender"] for run in runs]
    bars = axes.barh(names, [run["rows_per_second"] for run in runs], color=[COLOURS[name] for name in names])
    axes.bar_label(bars, fmt="%.0f", padding=3)
    ceiling = measured["ceiling"]
    for key, style, label in (("best", "-", "the denoiser alone"), ("best_with_decoding", ":", "and the decoder")):
        axes.axvline(ceiling[key], color="black", linewidth=0.8, linestyle=style, label=f"ceiling: {label}")
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15 * ceiling["best"])
    axes.set_xlabel("rows of the denoiser a second, at saturation")
    axes.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)


def _draw_waits(axes: Axes, runs: Sequence[Mapping[str, Any]]) -> None:
    for run in runs:
        waits = run["waits_seconds"]
        shares = [(place + 1) / len(waits) for place in range(len(waits))]
        axes.step(waits, shares, where="post", color=COLOURS[run["contender"]], label=run["contender"])
    axes.set_xlim(left=0)
    axes.set_ylim(0, 1)
    axes.set_xlabel("seconds from request to stored picture, at what one by one can be drawn")
    axes.set_ylabel("share of requests")
    axes.legend(frameon=False, fontsize=8, loc="lower right")


if __name__ == "__main__":
    sys.exit(main())
