"""``boxsched worker``: an agent on a separate machine, connected to one node at a time."""
