"""What becomes of a service's process when nobody has thought of an error."""

import json
import os
import subprocess
import sys

import pytest

BROKEN = """
import importlib, sys

main, broken, name = sys.argv[1:]

async def fail(*_arguments, **_more):
    raise RuntimeError("nobody has thought of this")

setattr(importlib.import_module(broken), name, fail)
sys.exit(importlib.import_module(main).main([]))
"""


@pytest.mark.parametrize(
    ("service", "arguments"),
    [
        ("gateway", ("gateway.__main__", "gateway.__main__", "serve")),
        ("worker", ("inference.__main__", "inference.bootstrap", "run")),
    ],
    ids=["gateway", "worker"],
)
def test_a_defect_is_told_with_its_traceback_and_in_one_line(service: str, arguments: tuple[str, ...]) -> None:
    environment = {
        **os.environ,
        "EASEL_LOG_FORMAT": "json",
        "EASEL_MODEL": "postcard",
        "EASEL_DATABASE_URL": "postgresql://a/b",
    }
    done = subprocess.run(
        [sys.executable, "-c", BROKEN, *arguments], check=False, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 1, done.stderr
    (line,) = [json.loads(line) for line in done.stderr.splitlines()]
    assert (line["level"], line["service"], line["action"]) == ("ERROR", service, "defect")
    assert line["exception"].endswith("RuntimeError: nobody has thought of this")
