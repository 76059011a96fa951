"""What a node remembers of its database, in its data folder."""

import logging
import os
from pathlib import Path

import msgspec

from boxsched.store.postgres_marks import Mark, Seen

FILE = "database-seen.json"

_log = logging.getLogger(__name__)


class Memory:
    """``folder`` None: for as long as the process lives."""

    def __init__(self, folder: Path | None) -> None:
        self._path = None if folder is None else folder / FILE
        self.seen = Seen()
        self._saved = b""

    def load(self) -> None:
        if self._path is None:
            return
        try:
            self._saved = self._path.read_bytes()
            self.seen = msgspec.json.decode(self._saved, type=Seen)
        except FileNotFoundError:
            pass
        except (OSError, msgspec.MsgspecError) as error:
            _log.error("%s cannot be read, and is begun anew: %s", self._path, error)

    def note(self, mark: Mark) -> None:
        """A session of this node is there. A history that is new is on the disk then."""
        durably = self.seen.note(mark)
        text = msgspec.json.encode(self.seen)
        if self._path is None or text == self._saved:
            return
        draft = self._path.with_name(f".{FILE}")
        try:
            with draft.open("wb") as file:
                file.write(text)
                if durably:
                    file.flush()
                    os.fsync(file.fileno())
            draft.replace(self._path)
        except OSError as error:
            _log.warning("what was seen of the database cannot be kept: %s", error)
        else:
            self._saved = text
