"""What a plain ``pip install .`` brings: every module and every file that the code reads."""

import configparser
import re
from importlib import metadata

import pytest

from tests.conftest import PROJECT

PACKAGES = ("boxsched", "activity_monitor")
ODD_ENDS = {".pyc", ".pyo"}


def read_settings():
    settings = configparser.ConfigParser()
    settings.read(PROJECT / "setup.cfg", encoding="utf-8")
    return settings


def shipped_files():
    """(package, path from the package) of every file that is no Python module."""
    for package in PACKAGES:
        for path in sorted((PROJECT / package).rglob("*")):
            if path.is_file() and path.suffix not in {".py", *ODD_ENDS}:
                yield package, path.relative_to(PROJECT / package)


@pytest.mark.parametrize(("package", "path"), [*shipped_files()], ids=str)
def test_every_data_file_is_in_the_package_data(package, path):
    patterns = read_settings()["options.package_data"][package].split()
    folders = {pattern.removesuffix("/**") for pattern in patterns if pattern.endswith("/**")}
    assert any(path.match(p) for p in patterns) or folders & {str(p) for p in path.parents}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_folder_with_modules_is_a_package(package):
    folders = {path.parent for path in (PROJECT / package).rglob("*.py")}
    assert [f for f in sorted(folders) if not (f / "__init__.py").is_file()] == []


def test_the_readme_has_exactly_two_set_up_commands():
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^ *(python3 -m venv .+)$", readme, re.MULTILINE)
    assert len(commands) == 2
    assert commands[0].endswith("boxsched demo")
    assert commands[1].endswith("pytest")


def test_the_version_is_that_of_the_code():
    from boxsched import __version__

    assert metadata.version("boxsched") == __version__
    assert read_settings()["metadata"]["version"] == "attr: boxsched.__version__"
