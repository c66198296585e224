"""Programs are killed at each named point; what was promised before holds after. It runs beside all other tests, since
it takes a key's minute to judge a key."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from system import PATIENCE


@pytest.fixture(scope="session")
def harness():
    environment = {**os.environ, "PROGRAMS": os.environ["PROGRAMS_WITH_KILL_POINTS"]}
    words = [sys.executable, "-m", "crash", "--short"]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, cwd=Path(__file__).parent, env=environment, stdout=pipe, text=True) as harness:
        yield harness
        harness.terminate()


def test_it_begins(harness):
    assert harness.stdout.readline().startswith("seed ")


@pytest.mark.last
def test_what_was_promised_before_a_crash_holds_after_it(harness):
    report, _ = harness.communicate(timeout=5 * PATIENCE)
    assert harness.returncode == 0, report
