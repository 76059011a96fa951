"""How fast it is, measured: a service from outside (``service``), the core alone (``core``).

The service is to be started with ``--box-driver none``: its Boxes run nothing, so that what is
measured is the scheduler. The load must cost next to nothing beside it, since both share a machine:
``load`` writes prepared bytes on keep-alive connections and counts answers.
"""
