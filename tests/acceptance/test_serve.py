"""What ``boxsched serve`` adds to the application: its connections and its shutdown."""

import json
import socket
from pathlib import Path
from urllib.parse import urlsplit

from tests.faults.service import Service


def test_data_that_is_not_http_gets_the_error_format_of_the_contract(tmp_path: Path) -> None:
    service = Service(tmp_path, "--boxes", "0")
    service.start()
    port = urlsplit(service.url).port
    assert port is not None
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(b"GARBAGE\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ") or head.startswith(b"HTTP/1.0 400 ")
    assert b"python" not in head.lower()
    assert json.loads(body)["error"]["code"] == "malformed"
    assert service.stop() == 0


def test_a_stop_ends_streams_and_exits_with_0(tmp_path: Path) -> None:
    service = Service(tmp_path, "--boxes", "0")
    service.start()
    address = urlsplit(service.url)
    with socket.create_connection((address.hostname, address.port), timeout=20) as reader:
        request = f"GET /api/v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {service.token}"
        reader.sendall(f"{request}\r\n\r\n".encode())
        assert b" 200 " in reader.recv(65_536)
        assert service.stop() == 0
        while reader.recv(65_536):
            pass
    assert not (tmp_path / "service.json").exists()
