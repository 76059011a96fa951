"""``boxsched notifications`` against a service whose hook is refused at first."""

import http.server
import json
import threading

import pytest

from tests.cli.conftest import CommandRunner, end, start


class Refusing(http.server.BaseHTTPRequestHandler):
    status = 500

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(type(self).status)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def receiver():
    class Handler(Refusing):
        pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def shell(tmp_path, receiver):
    """A service with a passed build, whose notification has failed once."""
    data = str(tmp_path / "data")
    service = start("serve", "--port", "0", "--allow-outgoing", "127.0.0.1", data=data)
    try:
        project = tmp_path / "web.yml"
        hook = {"url": f"http://127.0.0.1:{receiver.server_port}/hook"}
        job = {"name": "j", "commands": ["true"]}
        project.write_text(json.dumps({"name": "web", "jobs": [job], "hooks": [hook]}))
        shell = CommandRunner(data)
        shell("project", "apply", str(project))
        shell("build", "web", "--branch", "main", "--wait")
        yield shell
    finally:
        assert end(service) == 0


def test_a_failed_notification_is_listed_shown_and_resent(shell, receiver):
    def row(**wanted):
        while True:
            for one in shell.json("notifications", "list")["notifications"]:
                if all(one[field] == value for field, value in wanted.items()):
                    return one

    failed = row(state="waiting", status=500)
    table = shell("notifications", "list", "--state", "waiting").stdout
    assert "workload.finished" in table and "#1 " in table and "it answered 500" in table
    shown = shell("notifications", "show", failed["id"]).stdout
    assert f"http://127.0.0.1:{receiver.server_port}/hook" in shown
    assert "state:    waiting after " in shown and " after 1 tries" not in shown
    assert "error:    it answered 500" in shown and "next try: " in shown
    assert "signed:   no, the hook has no secret" in shown
    receiver.RequestHandlerClass.status = 200
    assert "will be sent to 127.0.0.1" in shell("notifications", "resend", failed["id"]).stdout
    row(state="delivered", status=200)
    assert shell.json("notifications", "show", failed["id"])["state"] == "delivered"
    assert "there are no" in shell("notifications", "list", "--state", "dead").stderr


def test_an_unknown_notification_is_an_error(shell):
    said = shell("notifications", "show", "999", status=2).stderr
    assert said == "boxsched: there is no notification '999'\n"
    shell("notifications", "resend", "999", status=2)
