"""The arrows of the design: who may import whom, read from the source, and what nobody may use."""

import ast
import graphlib
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(path for path in ROOT.glob("*.py") if path.name != "setup.py")
# Where each folder's modules live once installed.
PACKAGES = {"metatlp": "metatlp", "kernels": "metatlp.kernels", "sampling": "metatlp.sampling"}
INSTALLED = sorted(path for folder in PACKAGES for path in (ROOT / folder).rglob("*.py"))
OTHERS = sorted(
    path for folder in ("tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")
)
EVERYTHING = [*SCRIPTS, *INSTALLED, *OTHERS]

# engine -> {tasks, data, model, sampling, kernels}: none of these knows the engine, and kernels
# and sampling know nothing of ours at all.
BELOW_ENGINE = ("metatlp.data", "metatlp.tasks", "metatlp.model")
THIRD_PARTY = {"metatlp.kernels": {"torch", "triton"}, "metatlp.sampling": {"numpy"}}
PICKLES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    return ".".join((PACKAGES.get(parts[0], parts[0]), *parts[1:]))


@cache
def nodes(path: Path) -> list[ast.AST]:
    """Of the whole file; several tests look at them."""
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def imports(path: Path) -> Iterator[str]:
    """Full names of what a file imports, anywhere in it."""
    own = module_name(path).split(".")
    package = own if path.name == "__init__.py" else own[:-1]
    return imported_names(nodes(path), package)


def imported_names(tree: Iterable[ast.AST], package: list[str]) -> Iterator[str]:
    for node in tree:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            # `from . import reference` means the module beside, not the package it is in.
            if node.module:
                yield origin
            # `from metatlp import engine` imports a module too.
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def offences(paths, forbidden) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in paths
        for name in imports(path)
        if forbidden(name)
    ]


def of(package: str) -> list[Path]:
    return [path for path in INSTALLED if within(module_name(path), package)]


@pytest.mark.parametrize("package", THIRD_PARTY)
def test_kernels_and_sampling_import_nothing_of_ours(package):
    allowed = THIRD_PARTY[package] | sys.stdlib_module_names

    def forbidden(name):
        return not within(name, package) and name.split(".")[0] not in allowed

    assert of(package) and not offences(of(package), forbidden)


@pytest.mark.parametrize("package", BELOW_ENGINE)
def test_the_engine_is_above(package):
    assert of(package) and not offences(of(package), lambda name: within(name, "metatlp.engine"))


def test_shared_modules_import_no_package():
    shared = [path for path in INSTALLED if path.parent == ROOT / "metatlp"]
    packages = [f"metatlp.{path.parent.name}" for path in ROOT.glob("metatlp/*/__init__.py")]
    packages += THIRD_PARTY
    assert shared and not offences(
        shared, lambda name: any(within(name, package) for package in packages)
    )


def test_no_import_cycles():
    modules = {module_name(path) for path in INSTALLED}
    graph = {module_name(path): modules & set(imports(path)) for path in INSTALLED}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError with the cycle


def test_no_package_imports_a_script():
    scripts = {path.stem for path in SCRIPTS} | {"setup"}
    assert not offences(INSTALLED, lambda name: name.split(".")[0] in scripts)


def test_nobody_imports_kernels_or_sampling_bare():
    # `kernels` alone is Hugging Face's package of that name, or ours under a second name.
    assert not offences(EVERYTHING, lambda name: name.split(".")[0] in ("kernels", "sampling"))


def unsafe(node: ast.AST) -> bool:
    """torch.load, unpickling through a keyword, or code from a model repository."""
    if isinstance(node, ast.Attribute):
        return node.attr == "load" and isinstance(node.value, ast.Name) and node.value.id == "torch"
    if isinstance(node, ast.keyword) and node.arg in ("trust_remote_code", "allow_pickle"):
        return not (isinstance(node.value, ast.Constant) and node.value.value is False)
    return False


def test_no_pickle_and_no_remote_code():
    assert not offences(
        EVERYTHING, lambda name: name.split(".")[0] in PICKLES or name == "torch.load"
    )
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in EVERYTHING
        for node in nodes(path)
        if unsafe(node)
    ]
    assert not found


def loads_unguarded(node: ast.AST) -> bool:
    """A from_pretrained or from_config without trust_remote_code, which transformers asks about."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return False
    loads = node.func.attr in ("from_pretrained", "from_config")
    return loads and "trust_remote_code" not in {keyword.arg for keyword in node.keywords}


def test_every_load_refuses_remote_code():
    # That the value is False is the test above.
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in [*SCRIPTS, *INSTALLED]
        for node in nodes(path)
        if loads_unguarded(node)
    ]
    assert not found


def test_this_reader_sees_every_form():
    # So that the tests above can fail.
    source = "import os, kernels\ndef f():\n    from . import a\n    from ..b.c import d\n"
    names = set(imported_names(ast.walk(ast.parse(source)), ["metatlp", "data"]))
    assert names == {*("os", "kernels", "metatlp.data.a", "metatlp.b.c", "metatlp.b.c.d")}
    for text in ("torch.load(p)", "f(trust_remote_code=True)", "np.load(p, allow_pickle=flag)"):
        assert any(unsafe(node) for node in ast.walk(ast.parse(text)))
    assert not any(unsafe(node) for node in ast.walk(ast.parse("f(trust_remote_code=False)")))
    for call, bad in (
        ("A.from_pretrained(n)", True),
        ("auto.from_config(c, **options)", True),
        ("A.from_pretrained(n, trust_remote_code=False)", False),
    ):
        assert any(loads_unguarded(node) for node in ast.walk(ast.parse(call))) == bad
