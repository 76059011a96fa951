"""What an operator does with a whole database: ``boxsched check`` and ``boxsched db``."""
