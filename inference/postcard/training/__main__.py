"""Trains postcard from nothing, or goes on where it was stopped: `python -m inference.postcard.training FOLDER`."""

import argparse
import os
import sys
from pathlib import Path

from inference import models


def main() -> None:
    """Train, and measure what came out."""
    parser = argparse.ArgumentParser(prog="python -m inference.postcard.training", description=__doc__)
    parser.add_argument("folder", type=Path, help="where checkpoints are kept; the model is written to FOLDER/model")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="how many cores to use")
    arguments = parser.parse_args()
    if arguments.threads < 1:
        parser.error("--threads: at least 1")
    models.quieten(offline=True)
    # Only now: what it imports reads what was set just now. Nor do the processes that paint import torch, although
    # each begins with this module.
    from inference.postcard.training import run  # noqa: PLC0415

    try:
        run.run(arguments.folder, threads=arguments.threads)
    except (run.OtherRecipe, OSError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("Stopped. The same command goes on from here.")


if __name__ == "__main__":
    main()
