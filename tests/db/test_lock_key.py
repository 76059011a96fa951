"""All nodes of a cluster need one lock key: with two keys, two nodes would lead."""

import json
from pathlib import Path

from tests.db.conftest import Roles, run
from tests.db.test_moved import boxsched, serving


def status(roles: Roles) -> bool | None:
    said = json.loads(run("db", "status", "--database", roles.reader, "--json").stdout)
    found: bool | None = said["default_lock_key"]
    return found


def test_a_node_with_another_lock_key_ends_with_the_reason(roles: Roles, tmp_path: Path) -> None:
    roles.upgrade()
    assert status(roles) is None
    own = ("--lock-key", "own")
    asked = ("--database", roles.service)
    with serving(tmp_path / "one", *asked):
        assert status(roles) is True
        options = ("--boxes", "0", "--port", "0", "--data", str(tmp_path / "two"))
        refused = boxsched("serve", *options, *asked, *own)
        assert refused.returncode == 1
        assert "boxsched: this cluster's nodes use another --lock-key: give" in refused.stderr
        with serving(tmp_path / "three", *asked):
            pass
    with serving(tmp_path / "two", *asked, *own):
        assert status(roles) is False
        shown = run("db", "status", "--database", roles.service).stdout
        assert "lock key      not the default" in shown
