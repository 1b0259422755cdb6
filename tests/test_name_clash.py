"""Hugging Face's `kernels` package beside our folder of that name: scripts must bear both.

A stub distribution stands for the real one. transformers imports it in
transformers.integrations.hub_kernels, when the installed version suits it.
"""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from transformers.utils import import_utils

ROOT = Path(__file__).resolve().parents[1]
PATTERNS = ("train_*.py", "finetune.py", "evaluate_*.py")
SCRIPTS = sorted(path for pattern in PATTERNS for path in ROOT.glob(pattern))
VERSION = getattr(import_utils, "KERNELS_MIN_VERSION", "0.18.2")

# What all scripts begin with: on a copy it proves the remedy without any of them.
PREAMBLE = """\
import sys
from pathlib import Path

sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != Path(__file__).resolve().parent]
"""
# Every name asked of the stub exists, as in the real package; it may be called, and what it returns
# decorates a class or function by leaving it as it is.
STUB = """\
IS_STUB = True

class Stand:
    def __call__(self, *args, **options):
        decorates = len(args) == 1 and hasattr(args[0], "__qualname__")
        return args[0] if decorates else self

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return self

def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return Stand()
"""
# `python SCRIPT --help` puts the script's folder first on the path; so does this, and then looks at
# what transformers has loaded, in the same process.
DRIVER = """\
import runpy, sys
script, expect_stub = sys.argv[1], sys.argv[2] == "stub"
sys.path[0] = script.rpartition("/")[0]
sys.argv = [script, "--help"]
try:
    runpy.run_path(script, run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
import transformers
from transformers import AutoModelForTokenClassification
from transformers.integrations import hub_kernels
from transformers.models.bert import modeling_bert
import metatlp.kernels, metatlp.sampling
theirs = sys.modules.get("kernels")
assert hub_kernels.is_kernels_available() == expect_stub, "is_kernels_available"
assert getattr(theirs, "IS_STUB", False) == expect_stub, theirs
print("imported")
"""


@pytest.fixture
def stub(tmp_path):
    """A folder like site-packages that holds the distribution `kernels`."""
    site = tmp_path / "site"
    (site / "kernels").mkdir(parents=True)
    (site / "kernels" / "__init__.py").write_text(STUB)
    info = site / f"kernels-{VERSION}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: kernels\nVersion: {VERSION}\n")
    return site


def written_script(tmp_path, preamble):
    """A script in a folder that holds our kernels/, as the project root does."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "kernels").symlink_to(ROOT / "kernels")
    script = root / "script.py"
    script.write_text(preamble + "import transformers\nfrom transformers import AutoModel\n")
    return script


def run(script, tmp_path, site=None):
    # From a folder of its own: the current one must not help.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment |= {"PYTHONPATH": str(site)} if site else {}
    return subprocess.run(
        [sys.executable, "-c", DRIVER, str(script), "stub" if site else "none"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )


def assert_imported(done):
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.endswith("imported\n")


def test_the_preamble_bears_the_package(stub, tmp_path):
    assert_imported(run(written_script(tmp_path, PREAMBLE), tmp_path, stub))


def test_without_the_preamble_it_breaks(stub, tmp_path):
    done = run(written_script(tmp_path, ""), tmp_path, stub)
    assert done.returncode != 0
    assert "ImportError: cannot import name" in done.stderr
    assert f"from 'kernels' ({tmp_path}" in done.stderr


def test_the_preamble_does_no_harm_without_the_package(tmp_path):
    if import_utils.is_kernels_available():
        pytest.skip("the real package is installed: the other tests cover it")
    assert_imported(run(written_script(tmp_path, PREAMBLE), tmp_path))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_script_begins_with_the_preamble(script):
    """Behind the docstring, and before any other import."""
    module = ast.parse(script.read_text())
    _, future, *rest = module.body
    assert ast.get_docstring(module) and ast.unparse(future).startswith("from __future__ import ")
    expected = ast.parse(PREAMBLE).body
    assert [ast.unparse(line) for line in rest[: len(expected)]] == list(map(ast.unparse, expected))


def test_so_begun_a_script_bears_the_package(stub, tmp_path):
    assert_imported(run(ROOT / "train_meta.py", tmp_path, stub))


def test_the_module_that_is_a_script_bears_the_package(stub):
    # `python -m` puts the current folder on the path.
    command = [sys.executable, "-m", "metatlp.model.demo_encoder", "--help"]
    environment = {**os.environ, "PYTHONPATH": str(stub)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0 and "--pretrain-steps" in done.stdout, done.stderr[-2000:]
