"""The supervisor of a job and the spawner that forks it: standard library only.

The spawner is a small process that is started once and imports this package alone, so that a fork
costs little and the processes of jobs hold nothing of the service. A test looks at what it imports.
"""
