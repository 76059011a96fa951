"""The agent: it decides what to start and stop on its machine, and reports what became of it.

``agent.Agent`` holds the worker's folder (``site``) and a driver: ``process.ProcessDriver`` runs
each job under a supervisor (``boxsched.worker.supervisor``), ``none.NoneDriver`` runs nothing.
Everything that the agent has to say goes through an ``outbox`` until it is durable.
"""
