"""The supervisor of a job and the spawner that forks it: standard library only.

The spawner is a small process that is started once. It imports nothing but this package, so that a
fork is cheap and the processes of jobs hold nothing of the service. A test checks its imports.
"""
