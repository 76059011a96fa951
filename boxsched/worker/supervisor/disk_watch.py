"""Measure now and then how much disk a Box takes.

A process of its own walks through the Box, so that the supervisor goes on. It counts what files
take, each once, and follows no link. What it does not see: deleted files that are still open, and,
unless the worker is root, folders that the job has made unreadable.

Imported by the spawner, so it imports only small modules of the standard library.
"""

import errno
import os
import resource
import signal
import stat

from boxsched.worker.supervisor import containment, safe_files

SECONDS = 1.0  # between two measurements, at least
SHARE = 10  # a measurement may take at most a tenth of the time
BLOCK_BYTES = 512
_WORDS_BYTES = 64
_MOST_LINKED = 1_000_000  # files with several names that are recognized


class DiskWatch:
    """``pipe`` becomes readable when a measurement has ended; -1: none is running."""

    def __init__(self, limit: int, box: int, now: float) -> None:
        self.limit = limit
        self.pipe = -1
        self.next_at = now + SECONDS
        self._box = box
        self._began = 0.0

    def begin(self, now: float) -> None:
        """Start a measurement. Raises OSError."""
        self._began = now
        self.next_at = float("inf")
        self.pipe, pipe_in = os.pipe()
        child = -1
        try:
            child = os.fork()
            if child == 0:
                _measure(self._box, self.limit, pipe_in)
        finally:
            os.close(pipe_in)
            if child < 0:
                self._end(now)

    def is_exceeded(self, now: float) -> bool:
        """Read the measurement that has ended; return whether the limit is exceeded."""
        try:
            said = os.read(self.pipe, _WORDS_BYTES)
        finally:
            self._end(now)
        return said.isdigit() and int(said) > self.limit

    def _end(self, now: float) -> None:
        os.close(self.pipe)
        self.pipe = -1
        self.next_at = now + max(SECONDS, (now - self._began) * SHARE)


def _measure(box: int, limit: int, pipe: int) -> None:
    """Write the size; only in the child."""
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        containment.die_with_parent()
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each level takes two
        os.write(pipe, b"%d" % taken(box, limit))
    except (OSError, RecursionError, MemoryError):
        pass  # the next measurement may succeed
    finally:
        os._exit(0)


def taken(folder: int, limit: int) -> int:
    """Return the bytes of disk that the folder takes. May stop counting above ``limit``.

    Folders that are too deep to be looked at count as above it: any file may be in them.
    """
    linked: set[tuple[int, int]] = set()
    total = 0
    waiting = [_Folder(os.dup(folder))]  # each is inside of the one before
    while waiting and total <= limit:
        try:
            entry = next(waiting[-1].entries, None)
            found = entry and entry.stat(follow_symlinks=False)
        except OSError:
            continue  # it is gone
        if entry is None or found is None:
            waiting.pop().close()
            continue
        if found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode):
            key = found.st_dev, found.st_ino
            if key in linked:
                continue
            if len(linked) < _MOST_LINKED:
                linked.add(key)
        total += found.st_blocks * BLOCK_BYTES
        if stat.S_ISDIR(found.st_mode):
            try:
                waiting.append(_Folder(safe_files.open_folder(entry.name, waiting[-1].at)))
            except OSError as error:
                if error.errno == errno.EMFILE:
                    total = limit + 1
    for one in waiting:
        one.close()
    return total


class _Folder:
    """An open folder. Takes over the descriptor. Raises OSError."""

    def __init__(self, at: int) -> None:
        self.at = at
        try:
            self.entries = os.scandir(at)
        except OSError:
            os.close(at)
            raise

    def close(self) -> None:
        self.entries.close()
        os.close(self.at)
