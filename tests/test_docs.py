"""Links within the pages that users read lead to headings that are there."""

import re
from pathlib import Path

from tests.conftest import PROJECT

PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)#:\s]*)#([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> list[str]:
    """What a code host makes of the headings: lower case, hyphens, no punctuation."""
    headings = re.findall(r"^#+ (.+)$", CODE.sub("", page.read_text()), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings]


def test_a_link_to_a_heading_leads_to_one() -> None:
    links = [(page, *found) for page in PAGES for found in LINK.findall(page.read_text())]
    wrong = {
        f"{page.name}: {to}#{anchor}"
        for page, to, anchor in links
        if anchor not in anchors(page.parent / to if to else page)
    }
    assert not wrong


def test_the_headings_of_a_page_differ_so_that_each_can_be_linked() -> None:
    for page in PAGES:
        found = anchors(page)[1:]  # without the title
        assert len(found) == len(set(found)), page.name
