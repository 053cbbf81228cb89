"""The documents of other systems, statement by statement, in docs/seeds: each statement that holds
names a test that is there, and MISSING lists those that the panel and packages bring."""

import re

import pytest

import martlet_process

PAGES = martlet_process.ROOT / "docs/seeds"
INDEX = martlet_process.ROOT / "docs/seeds.md"
STATES = {"holds", "partly", "missing", "not ours"}
# How many rows each document has: none is forgotten.
ROWS = {"1-microservice": 55, "2-panel-broker": 50, "3-iotflow": 108, "4-service-mqtt": 40, "5-tls-guide": 53}

MISSING = {
    "1-microservice": "",
    "2-panel-broker": "2.1 2.47",
    "3-iotflow": "3.90 3.91",
    "4-service-mqtt": "4.4 4.12 4.16 4.20 4.28 4.29 4.30 4.31 4.32 4.33 4.34",
    "5-tls-guide": "5.8",
}


def rows(page):
    """Number, statement, state, how and tests of each row."""
    for line in (PAGES / f"{page}.md").read_text().splitlines():
        if re.match(r"\| \d", line):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            assert len(cells) == 5, line
            yield (*cells[:4], re.findall(r"`([^`]+)`", cells[4]))


def is_there(test):
    """Whether a test is: `seeds/FILE::NAME`, `clients/FILE::NAME`, or a test of a crate."""
    file, _, name = test.partition("::")
    path = martlet_process.ROOT / (file if file.startswith("crates/") else f"tests/{file}")
    word = "fn" if path.suffix == ".rs" else "def"
    return bool(name) and path.is_file() and re.search(rf"^ *{word} {re.escape(name)}\(", path.read_text(), re.M)


def test_each_document_has_a_page_and_the_index_names_it():
    assert {path.stem for path in PAGES.glob("*.md")} == set(ROWS)
    index = INDEX.read_text()
    for page in ROWS:
        states = [state for _, _, state, _, _ in rows(page)]
        counts = " | ".join(str(states.count(state)) for state in ("holds", "partly", "missing", "not ours"))
        assert f"(seeds/{page}.md) | {len(states)} | {counts} |" in index, (page, counts)


@pytest.mark.parametrize("page", ROWS)
def test_each_statement_has_its_state_and_its_tests(page):
    found = list(rows(page))
    numbers = [number for number, *_ in found]
    assert len(numbers) == len(set(numbers)) == ROWS[page]
    for number, statement, state, how, tests in found:
        assert number.startswith(page[0] + ".") and statement and state in STATES, number
        assert how or state == "holds", f"{number}: {state}, and nothing says why"
        assert tests or state in ("missing", "not ours"), f"{number}: no test"
        for test in tests:
            assert is_there(test), f"{number}: there is no test {test}"


@pytest.mark.parametrize("page", ROWS)
def test_only_the_panel_and_packages_are_planned(page):
    for number, _, state, how, _ in rows(page):
        is_planned = re.match(r"planned: (panel|packages)\b", how) is not None
        assert is_planned == (state in ("missing", "partly")), f"{number}: {state}, {how}"


def links(page):
    """Pages and headings that a page links to in this repository."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith(("http://", "https://")):
            path, _, heading = target.partition("#")
            yield (page.parent / path if path else page), heading


def headings(page):
    """Names of a page's headings, as links have them."""
    found = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def test_the_scaling_documentation_is_there():
    scaling = martlet_process.ROOT / "docs/scaling.md"
    for page in (martlet_process.ROOT / "README.md", martlet_process.ROOT / "docs/serve.md", PAGES / "5-tls-guide.md"):
        assert scaling in {path.resolve() for path, _ in links(page)}, page
    for page in (scaling, INDEX, *PAGES.glob("*.md")):
        for path, heading in links(page):
            assert path.exists(), f"{page.name}: {path}"
            assert not heading or heading in headings(path), f"{page.name}: {path.name}#{heading}"


@pytest.mark.parametrize("page", ROWS)
def test_what_is_missing_is_listed(page):
    missing = [number for number, _, state, _, _ in rows(page) if state == "missing"]
    assert missing == MISSING[page].split()
