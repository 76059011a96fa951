"""The supervisor of a job, and the spawner that forks it. Standard library only.

The spawner is a small process that is started once. It imports only this package: so a fork is
cheap, and the processes of jobs contain nothing of the service. A test checks its imports.
"""
