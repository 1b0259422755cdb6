"""The README names every file of the packages, and what it links to exists."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_module_has_its_line_in_the_layout():
    layout = README.partition("## Layout")[2]
    modules = [
        path
        for folder in ("metatlp", "kernels", "sampling")
        for path in (ROOT / folder).rglob("*.py")
        if path.name != "__init__.py"
    ]
    missing = [path for path in modules if not re.search(rf"^ +{path.name} +\w", layout, re.M)]
    assert len(modules) > 40 and not missing
    named = set(re.findall(r"^ +(\w+\.py) ", layout, re.M))
    assert named <= {path.name for path in modules}, "a line for a file that is not there"


def test_links_lead_somewhere():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            if "://" not in target:
                assert (page.parent / target).exists(), (page.name, target)
