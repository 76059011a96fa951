"""Try whether bubblewrap can isolate a job here: run as ``python -I -S -c BOOT ROOT ISOLATION``.

It makes a Box as a supervisor does, and starts a program in it that does nothing.
"""

import json
import os
import shutil
import sys
import tempfile

from boxsched.worker.supervisor import folder as files
from boxsched.worker.supervisor import isolation, safe_files
from boxsched.worker.supervisor.isolation import Isolation, Monitor
from boxsched.worker.supervisor.job_secrets import FILES_FOLDER
from boxsched.worker.supervisor.launch import launch

BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from boxsched.worker.supervisor.probing import main; main(sys.argv[2])"
)


def main(text: str) -> None:
    """Exit with status 0 if it works; else the last line on standard error says why not."""
    home = tempfile.mkdtemp(prefix="boxsched-")
    try:
        works = _works(Isolation(*json.loads(text)), home)
    except OSError as error:
        sys.exit(str(error))
    finally:
        shutil.rmtree(home, ignore_errors=True)
    sys.exit(0 if works else 1)


def _works(walls: Isolation, home: str) -> bool:
    at = safe_files.open_folder(home)
    safe_files.write_file(at, files.SCRIPT, b"")
    for name in (files.BOX, files.WORKSPACE, files.HOME, files.TMP):
        os.mkdir(name, 0o700, dir_fd=at)
    box = safe_files.open_folder(files.BOX, at)
    isolation.furnish(walls, at, box)
    monitor = Monitor()
    path = f"{home}/{files.BOX}"
    nothing = ["/bin/sh", "-c", ":"]
    file = isolation.options(walls, path, monitor.status, FILES_FOLDER, {"PATH": os.defpath})
    child, _ = launch(
        isolation.command(walls, file, nothing),
        {},
        workspace=box,
        output=2,
        errors=2,
        cgroup=None,
        inherited=[monitor.status, file],
        walls=walls,
        box=path,
    )
    monitor.close_status()
    return os.waitpid(child, 0)[1] == 0 and not monitor.has_failed()
