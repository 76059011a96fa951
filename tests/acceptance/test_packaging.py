"""What ``pip install .`` installs: every module and every file that the code reads."""

import configparser
from importlib import metadata

import pytest

from boxsched import __version__
from tests.conftest import PROJECT

PACKAGES = ("boxsched", "activity_monitor")
NOT_SHIPPED = {".py", ".pyc"}


def read_settings():
    settings = configparser.ConfigParser()
    settings.read(PROJECT / "setup.cfg", encoding="utf-8")
    return settings


def shipped_files():
    """Return (package, path in the package) of every file that is no Python module."""
    for package in PACKAGES:
        for path in sorted((PROJECT / package).rglob("*")):
            if path.is_file() and path.suffix not in NOT_SHIPPED:
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


def test_the_version_is_the_one_in_the_code():
    assert metadata.version("boxsched") == __version__
    assert read_settings()["metadata"]["version"] == "attr: boxsched.__version__"
