"""An attempt's folder, as the agent keeps it open."""

import os

from boxsched.worker.supervisor import safe_files


class Place:
    """``site`` is the descriptor of the agent's folder, ``path`` what the attempt's is called.

    The folder stays the same whatever its job puts in its place, for as long as the descriptor is
    open; where descriptors run out it is given back, and opened again when it is asked for.
    """

    def __init__(self, site: int, path: str) -> None:
        self.site = site
        self.path = path
        self.name = os.path.basename(path)
        self._at = -1

    @property
    def at(self) -> int:
        """Raises OSError."""
        if self._at < 0:
            self._at = safe_files.open_folder(self.name, self.site)
        return self._at

    def close(self) -> None:
        if self._at >= 0:
            os.close(self._at)
        self._at = -1
