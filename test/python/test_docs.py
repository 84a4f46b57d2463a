"""The documents are true where a machine can tell: generated pages, rules, links and file names."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pfcn.report import Group, Miss, Report

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("**/*.md"))]
BY_HAND = [page for page in PAGES if page.parent.name != "reference"]


def test_the_reference_is_current():
    command = [sys.executable, ROOT / "tools" / "dev" / "reference.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def find_citations(folders: list[str], rule: str) -> list[Path]:
    files = [
        path
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".cpp", ".h", ".td", ".mlir", ".test") and path.is_file()
    ]
    return [path for path in files if re.search(rf"\b{rule}\b", path.read_text())]


RULES = re.findall(r"^- \*\*(\w+),", (ROOT / "docs" / "Rationale.md").read_text(), re.MULTILINE)


def test_each_decision_has_a_number_of_its_own():
    assert len(RULES) > 30
    assert len(set(RULES)) == len(RULES)


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.startswith("F")])
def test_each_rule_of_legality_is_cited_in_code_and_tests(rule):
    assert find_citations(["lib", "include"], rule), f"no code says that it is {rule}"
    assert find_citations(["test"], rule), f"no test says that it tests {rule}"


def test_the_schema_of_reports_is_complete():
    group = Group("", 1, [], [], [], [], "")
    described = Report(groups=[group], missed=[Miss("")]).to_dict()
    text = (ROOT / "docs" / "Debugging.md").read_text()
    for part in (described, described["groups"][0], described["missed"][0]):
        for key in part:
            assert f"`{key}`" in text, f"Debugging.md does not say what {key} is"


@pytest.mark.parametrize("page", BY_HAND, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", BY_HAND, ids=lambda page: page.name)
def test_the_files_that_are_named_exist(page):
    """`lib/…/X.cpp` and the like, as they are written between backquotes."""
    tops = "lib|include|test|tools|python|docs|examples|benchmarks|cmake"
    for name in re.findall(rf"`((?:{tops})/[\w./-]+)`", page.read_text()):
        assert (ROOT / name).exists(), f"{page.name} names {name}"


def test_every_file_that_flow_points_to_exists():
    """Also those that are named by file name alone."""
    folders = [ROOT / folder for folder in ("lib", "include", "python")]
    names = {path.name for folder in folders for path in folder.rglob("*")}
    text = (ROOT / "docs" / "Flow.md").read_text()
    for name in re.findall(r"`(?:[\w/]+/)?(\w+\.(?:cpp|h|td|py))`", text):
        assert name in names, f"Flow.md names {name}"
