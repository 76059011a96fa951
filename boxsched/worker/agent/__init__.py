"""The agent: it decides what to start and stop on its machine, and reports the results.

``agent.Agent`` holds the worker's folder (``site``) and a driver: ``process.ProcessDriver`` runs
each job under a supervisor (``boxsched.worker.supervisor``), ``none.NoneDriver`` runs nothing.
All that the agent reports goes through an ``outbox``, which repeats it until it is durable.
"""
