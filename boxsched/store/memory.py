"""A node's memory of its database's history, in its data folder."""

import logging
import os
import threading
from pathlib import Path

import msgspec

from boxsched.store.marks import Mark, Seen

FILE = "database-seen.json"

_log = logging.getLogger(__name__)


class Memory:
    """The newest mark that this node has seen. ``folder`` None: kept in memory only."""

    def __init__(self, folder: Path | None) -> None:
        self._path = None if folder is None else folder / FILE
        self.seen = Seen()
        self._saved = b""
        self._to_sync = False
        self._saving = threading.Lock()

    def load(self) -> None:
        if self._path is None:
            return
        try:
            self._saved = self._path.read_bytes()
            self.seen = msgspec.json.decode(self._saved, type=Seen)
        except FileNotFoundError:
            pass
        except (OSError, msgspec.MsgspecError) as error:
            _log.error("%s cannot be read and is replaced: %s", self._path, error)

    def note(self, mark: Mark) -> None:
        """Note the mark of the server that a session uses; ``save`` writes it to disk."""
        if self.seen.note(mark):
            self._to_sync = True

    def save(self) -> None:
        """Write what was noted. Except for new batch numbers, it is on the disk when this returns.
        Blocking; several threads may call it at the same time.
        """
        if self._path is None:
            return
        with self._saving:
            sync, self._to_sync = self._to_sync, False
            text = msgspec.json.encode(self.seen)
            if text == self._saved and not sync:
                return
            try:
                self._write(self._path, text, sync=sync)
                self._saved = text
            except OSError as error:
                self._to_sync = self._to_sync or sync
                _log.warning(
                    "the database's history cannot be written to the data folder: %s", error
                )

    def _write(self, path: Path, text: bytes, *, sync: bool) -> None:
        draft = path.with_name(f".{FILE}")
        with draft.open("wb") as file:
            file.write(text)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        draft.replace(path)
