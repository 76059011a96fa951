"""Operations on a whole database: ``boxsched check`` and ``boxsched db``."""
