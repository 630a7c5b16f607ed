"""The everyday run: sixty kills, after which nothing is lost, doubled or wrong."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = 60
LIMIT_SECONDS = 900


@pytest.mark.timeout(LIMIT_SECONDS + 10)
def test_sixty_kills(tmp_path: Path) -> None:
    file = tmp_path / "outcome.json"
    command = [sys.executable, "-m", "tests.chaos", "--seed", "1", "--kills", str(KILLS)]
    where = ["--folder", str(tmp_path / "run"), "--json", str(file)]
    done = subprocess.run([*command, *where], capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    outcome = json.loads(file.read_text())
    assert (outcome["kills"], outcome["lost"], outcome["doubled"], outcome["wrong"]) == (KILLS, 0, 0, 0)
    assert outcome["findings"] == []
    assert outcome["accepted"] > KILLS
