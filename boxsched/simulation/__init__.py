"""The simulator: scenarios and workload logs in virtual time, over the same core as the service.

A ``Scenario`` is a value: the rules, the Boxes, the requests with their times, and how each job
will end. It is read from JSON (``scenario_file``) or from a workload log (``swf``). ``run`` moves
the clock from instant to instant, passes the events to the core, and records its decisions; only
the core decides. The ``Outcome`` holds each workload's times and the figures over all of them;
``report`` shows it.

    scenario = boxsched.simulation.parse(b'{"boxes": 2, "events": [...]}')
    outcome = boxsched.simulation.run(scenario)
    outcome.workloads["b1"].started_at, outcome.summary.utilization

The same scenario gives the same outcome, to the digit: it uses no clock and no randomness. A
scenario can be run again with other rules: ``attrs.evolve(scenario, rules=...)``.
"""

from boxsched.simulation.fields import BadInput
from boxsched.simulation.outcome import Outcome, SimulatedTimes, Summary
from boxsched.simulation.scenario import Scenario
from boxsched.simulation.scenario_file import parse
from boxsched.simulation.world import World, run

__all__ = ["BadInput", "Outcome", "Scenario", "SimulatedTimes", "Summary", "World", "parse", "run"]
