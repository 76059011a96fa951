"""A client without a URL or a token finds them as the CLI does."""

import os
from pathlib import Path

import msgspec
import pytest

from boxsched.client import Unreachable
from boxsched.client.finding import found
from boxsched.errors import Invalid
from boxsched.folders import DataFolder, Listening, Starting

HERE, ELSEWHERE = "http://127.0.0.1:8123", "https://ci.example.org"


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    """The data folder of a service that listens at HERE."""
    folder = DataFolder(tmp_path)
    folder.service_file.write_bytes(msgspec.json.encode(Listening(HERE, os.getpid())))
    folder.token_file.write_text("bxs_local")
    return folder


def test_the_service_on_this_machine_is_found_through_its_data_folder(folder: DataFolder) -> None:
    environment = {"BOXSCHED_DATA": str(folder.path)}
    assert found(None, None, environment) == ((HERE,), "bxs_local")
    assert found("http://localhost:8123/", None, environment)[1] == "bxs_local"
    assert found(ELSEWHERE, None, environment) == ((ELSEWHERE,), None), "it is no other service's"
    assert found([HERE, ELSEWHERE], None, environment)[1] is None
    assert found(None, "bxs_mine", environment) == ((HERE,), "bxs_mine")


def test_environment_variables_take_precedence_over_the_data_folder(
    folder: DataFolder, tmp_path: Path
) -> None:
    environment = {"BOXSCHED_DATA": str(folder.path), "BOXSCHED_URL": f"{ELSEWHERE}, {HERE}"}
    assert found(None, None, environment | {"BOXSCHED_TOKEN": "bxs_env "}) == (
        (ELSEWHERE, HERE),
        "bxs_env",
    )
    file = tmp_path / "token"
    file.touch(0o600)
    file.write_text("bxs_file\n")
    both = environment | {"BOXSCHED_TOKEN": "bxs_env", "BOXSCHED_TOKEN_FILE": str(file)}
    assert found(None, None, both)[1] == "bxs_file"
    assert found(HERE, "bxs_mine", both) == ((HERE,), "bxs_mine")
    file.chmod(0o644)
    with pytest.raises(Invalid, match="other users can read it") as refused:
        found(None, None, both)
    assert refused.value.field == "BOXSCHED_TOKEN_FILE"
    with pytest.raises(Invalid, match="No such file"):
        found(HERE, None, {"BOXSCHED_TOKEN_FILE": str(tmp_path / "none")})


def test_without_a_service_the_message_names_the_data_folder(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    environment = {"BOXSCHED_DATA": str(tmp_path)}
    with pytest.raises(Unreachable, match="no service is running on the data folder"):
        found(None, None, environment)
    starting = Starting(os.getpid(), "PostgreSQL is away")
    folder.starting_file.write_bytes(msgspec.json.encode(starting))
    with pytest.raises(Unreachable, match="has not started yet: PostgreSQL is away"):
        found(None, None, environment)
