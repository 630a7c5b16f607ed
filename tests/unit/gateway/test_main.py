"""What becomes of the process when nobody has thought of an error."""

import json
import os
import subprocess
import sys

BROKEN = """
import sys
import gateway.__main__ as main
import gateway.__main__ as broken

async def fail(*_arguments, **_more):
    raise RuntimeError("nobody has thought of this")

broken.serve = fail
sys.exit(main.main([]))
"""


def test_a_defect_is_told_with_its_traceback_and_in_one_line() -> None:
    environment = {
        **os.environ,
        "EASEL_LOG_FORMAT": "json",
        "EASEL_MODEL": "postcard",
        "EASEL_DATABASE_URL": "postgresql://a/b",
    }
    done = subprocess.run([sys.executable, "-c", BROKEN], check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 1, done.stderr
    (line,) = [json.loads(line) for line in done.stderr.splitlines()]
    assert (line["level"], line["service"], line["action"]) == ("ERROR", "gateway", "defect")
    assert line["exception"].endswith("RuntimeError: nobody has thought of this")
