"""``boxsched deliveries``: deliveries of code hosts, as a table and as JSON."""

import http.client
import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from boxsched.folders import DataFolder
from tests.service.code_hosts import SECRET, push, signed


def deliver(shell, body, event="push"):
    url = urlsplit(DataFolder(Path(shell.data)).listening().url)
    raw = json.dumps(body).encode()
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=30)
    headers = {"X-GitHub-Event": event, **signed("github", raw)}
    connection.request("POST", "/webhooks/github/hooked", raw, headers)
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return answer


@pytest.fixture(scope="module")
def created(shell, tmp_path_factory):
    """A build of a push that was sent twice, and a ping."""
    file = tmp_path_factory.mktemp("project") / "hooked.json"
    jobs = [{"name": "test", "commands": ["true"]}]
    file.write_text(json.dumps({"name": "hooked", "jobs": jobs, "webhook_secret": SECRET}))
    shell("project", "apply", str(file))
    body = push("topic\u202eevil")
    (id_,) = deliver(shell, push())["workloads"]
    assert deliver(shell, body)["result"] in ("created", "ignored")
    assert deliver(shell, {"zen": "x"}, "ping")["result"] == "ignored"
    return id_


def test_a_table_shows_the_deliveries(shell, created):
    lines = shell("deliveries", "--project", "hooked").stdout.splitlines()
    heads, ping, _, first = lines
    assert heads.split() == [
        "ID", "PROJECT", "EVENT", "RESULT", "WORKLOADS", "RECEIVED", "REASON",
    ]  # fmt: skip
    assert "github ping" in ping and "ignored" in ping and "a ping" in ping
    assert "github push" in first and "created" in first and " hooked#1 " in first
    assert created not in first
    assert "\u202e" not in "".join(lines)


def test_json_has_every_field(shell, created):
    answer = shell.json("deliveries", "--project", "hooked", "--result", "created", "--limit", "1")
    (one,) = answer["deliveries"]
    assert (one["result"], one["project"], one["provider"]) == ("created", "hooked", "github")
    whole = shell.json("deliveries", "--project", "hooked")["deliveries"]
    assert created in [id_ for one in whole for id_ in one["workloads"]]


def test_an_empty_list_is_reported(shell, created):
    done = shell("deliveries", "--project", "nobody")
    assert done.stderr == "boxsched: there are no deliveries\n"
    assert "created" in shell("deliveries", "--result", "nonsense", status=2).stderr


def test_a_workload_shows_the_link_to_its_changes_and_the_time_of_the_push(shell, created):
    shown = shell("show", created).stdout
    assert "https://github.com/shop/web/compare/a...b" in shown
    assert re.search("^pushed +2026-05-01 ", shown, re.MULTILINE)
