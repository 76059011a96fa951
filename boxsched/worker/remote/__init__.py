"""``boxsched worker``: an agent on a machine of its own, connected to one node at a time."""
