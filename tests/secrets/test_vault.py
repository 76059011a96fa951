"""The vault: sealed values open only with the right keys and in their own place."""

import base64
import os
import stat
import threading
from pathlib import Path

import pytest

from boxsched.errors import SecretsUnusable
from boxsched.secrets.ring import (
    KEY_FILE,
    MAX_FILE_BYTES,
    MAX_KEYS,
    VARIABLE,
    KeyRing,
    UnusableKeys,
    find_ring,
    key_id,
    new_key,
)
from boxsched.secrets.vault import Vault, is_sealed, key_of

OLD, NEW = new_key(), new_key()


def vault(*keys: str) -> Vault:
    return Vault(KeyRing.of("\n".join(keys), "the test"))


def test_a_value_opens_where_it_was_sealed_and_its_text_never_shows_it() -> None:
    sealed = vault(OLD).seal("project/1", "TOKEN", 2, "canary-ü")
    assert is_sealed(sealed) and "canary" not in sealed
    assert vault(OLD).open("project/1", "TOKEN", 2, sealed) == "canary-ü"
    assert sealed != vault(OLD).seal("project/1", "TOKEN", 2, "canary-ü"), "a nonce of its own"


@pytest.mark.parametrize(
    "place", [("project/2", "TOKEN", 2), ("project/1", "OTHER", 2), ("project/1", "TOKEN", 3)]
)
def test_a_moved_text_cannot_be_opened(place: tuple[str, str, int]) -> None:
    sealed = vault(OLD).seal("project/1", "TOKEN", 2, "canary")
    with pytest.raises(SecretsUnusable, match="cannot be opened"):
        vault(OLD).open(*place, sealed)


@pytest.mark.parametrize("cut", [10, 30, -1, -8])
def test_a_changed_text_cannot_be_opened(cut: int) -> None:
    sealed = vault(OLD).seal("project/1", "TOKEN", 1, "canary")
    changed = sealed[:cut] + ("A" if sealed[cut] != "A" else "B") + sealed[cut:][1:]
    with pytest.raises(SecretsUnusable):
        vault(OLD).open("project/1", "TOKEN", 1, changed)
    for length in (0, len(sealed) // 2, len(sealed) - 4):
        with pytest.raises(SecretsUnusable):
            vault(OLD).open("project/1", "TOKEN", 1, sealed[:length])


def test_the_first_key_seals_and_every_key_opens() -> None:
    sealed = vault(OLD).seal("project/1", "TOKEN", 1, "canary")
    both = vault(NEW, OLD)
    assert both.open("project/1", "TOKEN", 1, sealed) == "canary"
    again = both.seal("project/1", "TOKEN", 1, "canary")
    assert key_of(again) == both.first != key_of(sealed)
    with pytest.raises(SecretsUnusable, match=key_of(sealed)):
        vault(NEW).open("project/1", "TOKEN", 1, sealed)


def test_without_a_key_nothing_is_sealed_and_the_error_says_what_to_do() -> None:
    with pytest.raises(SecretsUnusable, match="--secrets-key-file"):
        Vault(None).seal("project/1", "TOKEN", 1, "canary")


def test_a_ring_shows_no_key() -> None:
    ring = KeyRing.of(OLD, "the test")
    shown = repr(ring) + repr(Vault(ring))
    assert OLD not in shown
    assert not any(key.hex() in shown or repr(key) in shown for key in ring.keys.values())


def test_sqlite_creates_its_own_key_and_keeps_it(tmp_path: Path) -> None:
    made = find_ring(None, tmp_path, makes=True, environment={})
    assert made is not None
    assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600
    assert find_ring(None, tmp_path, makes=True, environment={}) == made
    assert [path.name for path in tmp_path.iterdir()] == [KEY_FILE]


def test_nodes_that_share_a_database_create_no_key(tmp_path: Path) -> None:
    assert find_ring(None, tmp_path, makes=False, environment={}) is None
    assert list(tmp_path.iterdir()) == []


def test_a_file_takes_precedence_over_the_environment_and_that_over_the_data_folder(
    tmp_path: Path,
) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# of 2026\n{NEW}  # the new one\n{OLD}\n")
    file.chmod(0o640)
    environment = {VARIABLE: f"{OLD},{NEW}"}
    own = find_ring(None, tmp_path, makes=True, environment={})
    from_file = find_ring(file, tmp_path, makes=True, environment=environment)
    from_variable = find_ring(None, tmp_path, makes=True, environment=environment)
    assert from_file is not None and from_variable is not None
    assert from_file.keys == from_variable.keys
    assert from_file.first != from_variable.first
    assert own not in (from_file, from_variable)


def test_a_file_that_everybody_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(NEW)
    file.chmod(0o644)
    with pytest.raises(UnusableKeys, match="chmod 600") as refused:
        find_ring(file, tmp_path, makes=True, environment={})
    assert NEW not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    ["", "# nothing", "abc", NEW[:-4], NEW + " " + OLD[4:], "é"],
    ids=["empty", "comment", "short", "cut", "second cut", "not ASCII"],  # workers must agree
)
def test_an_invalid_key_is_refused_and_not_quoted(text: str, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(text)
    os.chmod(file, 0o600)
    with pytest.raises(UnusableKeys) as refused:
        find_ring(file, tmp_path, makes=True, environment={})
    assert not text.strip("# ") or text not in str(refused.value)


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(UnusableKeys, match="no-such-file"):
        find_ring(tmp_path / "no-such-file", tmp_path, makes=True, environment={})


def test_keys_may_be_written_in_each_base64_and_are_identified_by_their_names() -> None:
    key = b"\xfb\xff" * 16
    plain, url_safe = base64.b64encode(key).decode(), base64.urlsafe_b64encode(key).decode()
    assert plain != url_safe
    rings = [KeyRing.of(text, "the test") for text in (plain, url_safe, f"{plain}, {url_safe}")]
    assert {ring.first for ring in rings} == {key_id(key)}
    assert all(ring.keys == {key_id(key): key} for ring in rings)
    assert len(key_id(key)) == 16
    assert key_id(key) != key_id(key[::-1])


def test_a_ring_has_a_limit_of_keys_and_names_the_invalid_one() -> None:
    keys = [new_key() for _ in range(MAX_KEYS)]
    assert len(KeyRing.of("\n".join(keys), "FILE").keys) == MAX_KEYS
    with pytest.raises(UnusableKeys, match=f"FILE contains more than {MAX_KEYS} keys"):
        KeyRing.of("\n".join([*keys, new_key()]), "FILE")
    with pytest.raises(UnusableKeys, match="FILE: key 2 is not 32 bytes in base64"):
        KeyRing.of(f"{keys[0]} x {keys[1]}", "FILE")


@pytest.mark.parametrize(
    ("mode", "fine"),
    [(0o600, True), (0o640, True), (0o660, True), (0o604, False), (0o602, False), (0o601, False)],
)
def test_a_key_file_may_be_readable_by_its_group_only(
    tmp_path: Path, mode: int, fine: bool
) -> None:
    file = tmp_path / "keys"
    file.write_text(NEW)
    file.chmod(mode)
    if fine:
        assert find_ring(file, tmp_path, makes=False, environment={}) is not None
    else:
        with pytest.raises(UnusableKeys, match=f"mode 0{mode:o}"):
            find_ring(file, tmp_path, makes=False, environment={})


def test_a_key_file_has_a_limit_of_bytes(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(NEW.ljust(MAX_FILE_BYTES))
    file.chmod(0o600)
    assert find_ring(file, tmp_path, makes=False, environment={}) is not None
    file.write_text(NEW.ljust(MAX_FILE_BYTES + 1))
    with pytest.raises(UnusableKeys, match=f"more than {MAX_FILE_BYTES} bytes"):
        find_ring(file, tmp_path, makes=False, environment={})


def test_an_empty_variable_is_ignored_and_an_existing_key_is_used(tmp_path: Path) -> None:
    assert find_ring(None, tmp_path, makes=False, environment={VARIABLE: " "}) is None
    made = find_ring(None, tmp_path / "new" / "data", makes=True, environment={VARIABLE: ""})
    assert made is not None
    assert stat.S_IMODE((tmp_path / "new" / "data").stat().st_mode) == 0o700
    again = find_ring(None, tmp_path / "new" / "data", makes=False, environment={})
    assert again == made, "also where none would be made"


def test_processes_that_create_a_key_at_the_same_time_use_one(tmp_path: Path) -> None:
    begin = threading.Barrier(8)
    found: list[KeyRing | None] = []

    def start() -> None:
        begin.wait(30)
        found.append(find_ring(None, tmp_path, makes=True, environment={}))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all(one is not None and one == found[0] for one in found)
    assert [path.name for path in tmp_path.iterdir()] == [KEY_FILE]


def test_a_vault_knows_whose_keys_it_has_and_passes_plain_values_on() -> None:
    sealed = vault(OLD).seal("project/1", "TOKEN", 1, "canary")
    assert vault(NEW, OLD).has_key_of(sealed)
    assert not vault(NEW).has_key_of(sealed)
    assert not Vault(None).has_key_of(sealed)
    for keys in (vault(OLD), Vault(None)):
        assert keys.opened("project/1", "TOKEN", 1, "plain") == "plain"
    assert vault(OLD).opened("project/1", "TOKEN", 1, sealed) == "canary"
    with pytest.raises(SecretsUnusable, match="--secrets-key-file"):
        Vault(None).opened("project/1", "TOKEN", 1, sealed)
    with pytest.raises(SecretsUnusable, match="--secrets-key-file"):
        _ = Vault(None).first
