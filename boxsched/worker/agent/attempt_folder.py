"""An attempt's folder, kept open by the agent."""

import os

from boxsched.worker.supervisor import safe_files


class AttemptFolder:
    """``site``: the descriptor of the agent's folder. ``path``: the attempt's folder.

    While the descriptor is open, a job cannot replace the folder. When descriptors run out, it is
    closed, and opened again at the next use.
    """

    def __init__(self, site: int, path: str) -> None:
        self.site = site
        self.path = path
        self.name = os.path.basename(path)
        self._at = -1

    @property
    def at(self) -> int:
        """The folder's descriptor. Raises OSError."""
        if self._at < 0:
            self._at = safe_files.open_folder(self.name, self.site)
        return self._at

    def close(self) -> None:
        if self._at >= 0:
            os.close(self._at)
        self._at = -1
