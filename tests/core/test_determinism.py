"""The same scenarios under other hash seeds give the same output, byte for byte."""

import json
import os
import subprocess
import sys

from tests.conftest import PROJECT
from tests.reference.scenarios import random_scenario

RUN = """
import json, sys
from boxsched.simulation import parse, run
for line in sys.stdin.buffer:
    outcome = run(parse(line))
    print(outcome.summary, [(name, str(record)) for name, record in outcome.workloads.items()])
"""


def output(scenarios, hash_seed):
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        input="".join(json.dumps(s) + "\n" for s in scenarios),
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_the_hash_seed_changes_no_decision():
    scenarios = [random_scenario(seed) for seed in range(100)]
    first = output(scenarios, "1")
    assert first.count("\n") == 100
    assert output(scenarios, "2") == first
