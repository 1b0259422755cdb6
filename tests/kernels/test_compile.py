"""Every kernel compiles for GPUs that are not here, with wide accesses and without spills."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from metatlp.kernels import triton_kernels

SCRIPT = Path(__file__).with_name("compile_kernels.py")
CANDIDATE = "adamw_kernel"  # of benchmarks/kernel_ops/adamw_triton.py
ELEMENTWISE = {"delta_kernel", "apply_kernel", CANDIDATE}
REDUCTIONS = {"cosine_kernel", "gram_kernel"}


GPUS = ("80", "90", "100")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> dict[str, dict[str, dict]]:
    """GPU -> what each launch compiles to (see compile_kernels.py)."""
    folder = tmp_path_factory.mktemp("compiled")
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(folder)
    done = subprocess.run(
        [sys.executable, SCRIPT, folder / "found.json", *GPUS],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads((folder / "found.json").read_text())


@pytest.fixture(params=GPUS, ids="sm_{}".format)
def launches(request, compiled) -> dict[str, dict]:
    return compiled[request.param]


def narrow(launch: dict) -> list[str]:
    """Kernels of a launch that do not move all their vectors in accesses of 16 bytes or more.

    A vector that they do not move so is missing in the sum: partial blocks are moved narrowly, so
    nothing stands in for it.
    """
    found = []
    for kernel in launch["kernels"]:
        elements = kernel["elements"] * kernel["rows"]
        loads, stores = launch["reads"] * elements, launch["writes"] * elements
        if kernel["loads"] < loads or kernel["stores"] < stores:
            found.append(f"{kernel}: {loads} bytes are read and {stores} written")
    return found


def test_every_kernel_is_compiled(launches):
    compiled = {kernel["kernel"] for launch in launches.values() for kernel in launch["kernels"]}
    ours = {name for name in vars(triton_kernels) if name.endswith("_kernel")}
    assert compiled == ours | {CANDIDATE} == ELEMENTWISE | REDUCTIONS


def test_every_vector_moves_in_accesses_of_16_bytes(launches):
    assert not {
        name: narrow(launch)
        for name, launch in launches.items()
        if not name.startswith("unaligned") and narrow(launch)
    }


def test_one_unaligned_vector_is_seen(launches):
    """Without this the test above would say nothing."""
    unaligned = {name: x for name, x in launches.items() if name.startswith("unaligned")}
    for launch in unaligned.values():
        assert len(narrow(launch)) == 1
    kernels = {kernel["kernel"] for x in unaligned.values() for kernel in x["kernels"]}
    assert kernels == ELEMENTWISE | REDUCTIONS


def test_a_barrier_stands_between_loads_and_stores(launches):
    kernels = [(name, kernel) for name, x in launches.items() for kernel in x["kernels"]]
    assert not [x for x in kernels if x[1]["kernel"] in ELEMENTWISE and x[1]["unguarded"]]


def test_nothing_spills(launches):
    kernels = [(name, kernel) for name, x in launches.items() for kernel in x["kernels"]]
    assert not [x for x in kernels if x[1]["stack"] or x[1]["local"]]
