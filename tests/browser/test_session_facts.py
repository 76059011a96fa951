"""What the page shows of the host key of an SSH session."""

import base64
import hashlib
import re
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.service import Service
from tests.openssh import needs_openssh

pytestmark = pytest.mark.browser


@needs_openssh
def test_a_session_shows_the_fingerprint_that_ssh_asks_about(
    service: Service, page: Page, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    service.project("entered")
    public = " ".join((tmp_path / "key.pub").read_text().split()[:2])
    asked = {"branch": "main", "public_key": public}
    id_ = service.call("POST", "/projects/entered/ssh-sessions", asked)["id"]
    page.locator(f"#{id_} .row-title").click()
    fact = page.locator(".facts > div").filter(has_text=re.compile("^Fingerprint"))
    expect(fact).to_be_visible()
    host_key = service.workload(id_)["ssh"]["host_key"].split()[1]
    digest = hashlib.sha256(base64.b64decode(host_key)).digest()
    expect(fact.locator("dd")).to_have_text(
        "SHA256:" + base64.b64encode(digest).decode().rstrip("=")
    )
    service.call("POST", f"/workloads/{id_}/stop")
