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


def test_smoke_runs_every_script():
    """Those at the root, those of the benchmarks, and the modules that `python -m` runs."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    smoke = makefile[makefile.index("smoke-runs:\n") :]
    scripts = [path for path in ROOT.glob("*.py") if path.name != "setup.py"]
    scripts += [*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "metatlp").rglob("*.py")]
    runnable = [path for path in scripts if '__name__ == "__main__"' in path.read_text("utf-8")]
    assert {"train_meta.py", "__main__.py", "demo_scores.py"} <= {path.name for path in runnable}
    for path in runnable:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
        assert path.name in smoke or f"python -m {module} " in smoke, path
