"""From a submission's JSON and its project's settings to the workload that the store takes.

``known_projects`` remembers parsed settings, ``branch_patterns`` compiles their patterns, and
``new_workloads`` decides all that can be decided before a workload has its number.
"""
