"""Paths of files inside a workspace, as they come from jobs, workers and requests.

Imported by supervisors, so it imports only the standard library.
"""

MAX_PATH_BYTES = 1_024
MAX_PART_BYTES = 255
MAX_PARTS = 64


def unsafe(path: str) -> str | None:
    """Return why a file's path is refused; None if it is a plain path below its folder."""
    if not path:
        return "is empty"
    if not path.isprintable():
        return "has a character that cannot be printed"
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        return "is not valid text"
    if size > MAX_PATH_BYTES:
        return f"is longer than {MAX_PATH_BYTES} bytes"
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts):
        return "must be a path such as dist/app.tar, without empty parts, . and .."
    if len(parts) > MAX_PARTS:
        return f"has more than {MAX_PARTS} parts"
    if any(len(part.encode()) > MAX_PART_BYTES for part in parts):
        return f"has a part of more than {MAX_PART_BYTES} bytes"
    return None
