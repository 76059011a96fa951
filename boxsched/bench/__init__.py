"""Benchmarks: of a service, from outside (``service``), and of the core alone (``core``).

Start the service with ``--box-driver none``: its Boxes then run nothing, so that only the scheduler
is measured. The load must use little processor time, because both share a machine: ``load`` writes
prepared bytes on keep-alive connections and counts answers.
"""
