"""References in code and documents are valid: pages, headings, and numbers of faults."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PROJECT

DOCS = PROJECT / "docs"
LISTED = subprocess.run(
    ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
    cwd=PROJECT,
    capture_output=True,
    text=True,
)
TEXTS = [
    path
    for name in LISTED.stdout.split("\0")
    if name.endswith((".py", ".sql", ".js", ".md", ".cfg", ".ini", ".yaml"))
    and (path := PROJECT / name).is_file()
    and path != Path(__file__)
]
# Between the words of a reference: a space, or a line end and a comment sign.
GAP = r"[\s]+(?:#|--|//|\*)?[\s]*"
SECTION = re.compile(rf"docs/(\w+)\.md`?,{GAP}((?:\"[^\"]+\"(?:,?{GAP}(?:to|and){GAP}|,{GAP})?)+)")
PAGE = re.compile(r"\bdocs/([\w-]+\.md)")
NUMBER = re.compile(r"(?<![\w.\"'/-])([IVFS][1-9]\d?)(?![\w\"'])")
LINK = re.compile(r"\]\(([^)#:\s]+)\)")


def headings(page: Path) -> set[str]:
    """Headings without their numbers; empty for an unknown page."""
    if not page.is_file():
        return set()
    found = re.findall(r"^#+ (?:\d+\. )?(.+)$", page.read_text(), re.MULTILINE)
    return set(found) | set(re.findall(r"\*\*([^*]+)\.\*\*", page.read_text()))


def sections(text: str) -> Iterator[tuple[str, str]]:
    """Return page and heading of each reference such as ``docs/faults.md, "Faults" and
    "Invariants"``."""
    for page, titles in SECTION.findall(text):
        for title in re.findall(r'"([^"]+)"', titles):
            yield page, re.sub(GAP, " ", title)


@pytest.mark.skipif(not TEXTS, reason="no git here")
def test_a_reference_leads_to_a_page_and_a_heading() -> None:
    found = [(path, *each) for path in TEXTS for each in sections(path.read_text())]
    told = {(page, title) for _, page, title in found}
    assert ("scheduling", "Guard") in told
    assert ("scheduling", "The gate") in told
    missing = {
        f"{path}: docs/{page}.md has no heading {title!r}"
        for path, page, title in found
        if title not in headings(DOCS / f"{page}.md")
    }
    missing |= {
        f"{path}: there is no docs/{page}"
        for path in TEXTS
        for page in PAGE.findall(path.read_text())
        if not (DOCS / page).is_file()
    }
    assert not missing


def test_a_number_of_a_fault_or_an_invariant_is_explained() -> None:
    explained = set(re.findall(r"^\| ([IVFS]\d+) \|", (DOCS / "faults.md").read_text(), re.M))
    assert {"I1", "V1", "F1", "S3"} <= explained
    unknown = {
        f"{path}: {number}"
        for path in TEXTS
        if path.suffix in (".py", ".sql")
        for number in NUMBER.findall("\n".join(comments(path)))
        if number not in explained
    }
    assert not unknown


def comments(path: Path) -> Iterator[str]:
    """Return docstrings and comments of Python, and all explanations of named SQL blocks."""
    text = path.read_text()
    if path.suffix == ".sql":
        yield from re.findall(r"--.*", text)
    else:
        yield from re.findall(r'"""(.*?)"""', text, re.DOTALL)
        yield from re.findall(r"(?:^|\s)# .*", text)
        yield from re.findall(r'yield "([IV]\d.*?)"', text)


def test_a_link_in_a_page_is_valid() -> None:
    pages = [path for path in TEXTS if path.suffix == ".md"]
    links = [(page, target) for page in pages for target in LINK.findall(page.read_text())]
    assert not {f"{page}: {to}" for page, to in links if not (page.parent / to).exists()}


def test_the_index_lists_every_page() -> None:
    index = (DOCS / "README.md").read_text()
    for page in sorted(DOCS.glob("*.md")):
        assert page.name == "README.md" or f"({page.name})" in index, page.name


def test_test_files_that_the_pages_name_exist() -> None:
    for page in (DOCS / "faults.md", PROJECT / "tests" / "README.md"):
        folder = ""
        for name in re.findall(r"`(?:tests/)?([\w/]*test_\w+\.py)`", page.read_text()):
            folder = name.rpartition("/")[0] or folder
            path = PROJECT / "tests" / folder / name.rpartition("/")[2]
            assert path.is_file(), f"{page.name}: {path}"


def items(text: str) -> Iterator[str]:
    """Return each line of a list item, without code; not those of tables and examples."""
    inside = example = False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            example = not example
        elif not example and not line.lstrip().startswith("|"):
            inside = bool(re.match(r" *(?:[*-]|\d+\.) ", line)) or (inside and line[:1] in " ")
            if inside:
                yield re.sub(r"`[^`]*`", "", line)


# An item, within the line of another one: "... ends. * The next" or "... ends. 2. The next".
RUN_IN = re.compile(r"\S \* \S|[.:;)] \d\. [A-Z]")


def test_an_item_of_a_list_begins_a_line() -> None:
    assert [bool(RUN_IN.search(line)) for line in items("* One. * Two.\n  3. Four `a * b`")] == [
        True,
        False,
    ]
    assert [line for line in items("1. One.\n   Two. 2. Three.\n") if RUN_IN.search(line)]
    pages = [path for path in TEXTS if path.suffix == ".md"]
    assert not [
        f"{page}: {line.strip()}"
        for page in pages
        for line in items(page.read_text())
        if RUN_IN.search(line)
    ]
