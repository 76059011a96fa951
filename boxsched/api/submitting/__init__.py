"""Make a new workload from a submission's JSON and its project's settings.

``known_projects`` caches parsed settings, ``branch_patterns`` compiles their patterns, and
``new_workloads`` decides everything that can be decided before a workload has its number.
"""
