"""Compiles every kernel for GPUs that need not be there, through the launches that users make.

    python compile_kernels.py FILE 80 90

Writes JSON: for each GPU, each launch and each kernel in it, the bytes that a thread moves
in accesses of 16 bytes or more to global memory, as the PTX has them, and what the cubin uses. Run
in a process of its own, without TRITON_INTERPRET: it gives Triton a driver that only knows a name.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from metatlp.kernels import launch, triton_kernels

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from kernel_ops import adamw_triton  # noqa: E402

P = 2**16 + 3
F32, BF16, F16, I64 = torch.float32, torch.bfloat16, torch.float16, torch.int64
CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
ACCESS = re.compile(r"\b(ld|st)\.global\S*?(?:\.v(\d))?\.[bfsu](\d+)\s")


class Driver:
    """What compiling asks of a driver."""

    def __init__(self, capability: int):
        self.target = GPUTarget("cuda", capability, 32)

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> int:
        return self.target.arch  # what is compiled is kept by device

    def get_current_stream(self, device: int | None = None) -> int:
        return 0


class Compiling:
    """Stands in for a kernel: compiles for the arguments of a launch instead of launching."""

    def __init__(self, kernel: Any, seen: list[dict[str, Any]]):
        self.kernel, self.seen = kernel, seen

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        def compile_for(*args: Any, **options: Any) -> None:
            compiled = self.kernel.warmup(*args, grid=grid, **options)
            assert compiled.metadata.target == driver.active.get_current_target()
            self.seen.append(describe(compiled, options))
            for arg in args:
                if isinstance(arg, torch.Tensor):
                    arg.zero_()  # what the host looks at afterwards

        return compile_for


def describe(compiled: Any, options: dict[str, Any]) -> dict[str, Any]:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        command = [CUOBJDUMP, "-res-usage", file.name]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    used = dict(re.findall(r"\b(REG|STACK|LOCAL):(\d+)", shown))
    wide = {"ld": 0, "st": 0}
    for access, lanes, bits in ACCESS.findall(compiled.asm["ptx"]):
        size = int(lanes or 1) * int(bits) // 8
        wide[access] += size if size >= 16 else 0
    return {
        "kernel": compiled.src.fn.__name__,
        "elements": options.get("BLOCK", 0) / (32 * options.get("num_warps", 4)),  # of a thread
        "rows": options.get("ROWS", 1),
        "loads": wide["ld"],
        "stores": wide["st"],
        "unguarded": unguarded(compiled.asm["ptx"]),
        **{name.lower(): int(number) for name, number in used.items()},
    }


def unguarded(ptx: str) -> int:
    """Straight pieces of code that load and then store without a barrier between them.

    Triton may spread a load and a store of the same elements over the threads in different ways.
    """
    found = 0
    for block in re.split(r"^\$L\w+:", ptx, flags=re.MULTILINE):
        events = re.findall(r"\b(ld\.global|st\.global|bar\.sync|barrier\.sync)", block)
        kinds = ["barrier" if event.startswith("bar") else event[:2] for event in events]
        if "ld" in kinds and "st" in kinds:
            last_load = len(kinds) - 1 - kinds[::-1].index("ld")
            found += "barrier" not in kinds[last_load : kinds.index("st")]
    return found


Launch = tuple[str, Callable[[], object], list[int], list[int]]


def launches() -> Iterator[Launch]:
    """Name, launch, bytes of an element of each vector that is read, and that is written.

    What is not there in one case (working copy, velocity, start in live's precision) is in another.
    """
    yield from moves()
    yield from applies()
    yield from reductions()
    yield from adamw()
    yield from unaligned()


def moves() -> Iterator[Launch]:
    for live in (F32, BF16, F16):
        working = BF16 if live == F32 else None
        for total, exponent in ((F32, None), (BF16, None), (I64, 40)):
            for add in (True, False):
                if add and total == BF16:
                    continue
                start = live if total == F32 and not add else F32
                vectors = [vector(dtype) for dtype in (total, live, start)]
                yield (
                    f"{'accumulate' if add else 'write'} {live} from {start} to {total}",
                    partial(launch.move_delta_, *vectors, 0.25, exponent, vector(working), add),
                    sizes(live, start, total if add else None),
                    sizes(total, live, working),
                )


def applies() -> Iterator[Launch]:
    for live, working in ((F32, None), (F32, BF16), (BF16, None), (F16, None)):
        for total, exponent in ((F32, None), (BF16, None), (I64, 40)):
            velocity = None if total == BF16 else F32
            start = live if total == BF16 else F32
            vectors = [vector(dtype) for dtype in (start, live, total)]
            momentum = (vector(velocity), 0.9, live == F32)
            yield (
                f"apply {total} to {start}, {live} and {working}",
                partial(launch.apply_delta_, *vectors, 0.5, exponent, *momentum, vector(working)),
                sizes(start, total, velocity),
                sizes(start, live, total, velocity, working),
            )


def reductions() -> Iterator[Launch]:
    """The one vector beside several rows does not count as read: it is little, its block short."""
    for dtype in (F32, BF16):
        for number in (1, 3, 16, 32):
            run = partial(launch.cosine_terms, matrix(number, dtype), vector(dtype))
            read = sizes(dtype, dtype if number == 1 else None)
            yield f"cosine_terms of {number} {dtype}", run, read, []
        for number in (3, 24, 64, 65):
            run = partial(launch.gram, matrix(number, dtype))
            yield f"gram of {number} {dtype}", run, sizes(dtype), []


def adamw() -> Iterator[Launch]:
    """The benchmark's candidate."""
    yield "adamw", adamw_step(*(vector(F32) for _ in range(4))), [16], [12]


def adamw_step(*vectors: torch.Tensor) -> Callable[[], object]:
    """Of live, grad, exp_avg and exp_avg_sq."""
    numbers = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.01}
    return partial(adamw_triton.adamw_, *vectors, torch.zeros(()), torch.ones(()), **numbers)


def unaligned() -> Iterator[Launch]:
    """Each kernel once with one vector that begins at another alignment, or rows that do."""
    aligned, odd = vector(F32), torch.zeros(P + 1)[1:]
    outer = (0.5, None, aligned, 0.9, False, None)
    runs = {
        "accumulate": partial(launch.move_delta_, aligned, odd, aligned, 0.25, None, None, True),
        "apply": partial(launch.apply_delta_, aligned, odd, aligned, *outer),
        "cosine_terms": partial(launch.cosine_terms, aligned.unsqueeze(0), odd),
        "gram": partial(launch.gram, torch.zeros(3, P)),
        "adamw": adamw_step(odd, aligned, aligned, aligned),
    }
    reads = {"accumulate": 3, "apply": 3, "cosine_terms": 2, "gram": 1, "adamw": 4}
    writes = {"accumulate": 2, "apply": 4, "adamw": 3}
    for name, run in runs.items():
        yield f"unaligned {name}", run, [4 * reads[name]], [4 * writes.get(name, 0)]


def sizes(*dtypes: torch.dtype | None) -> list[int]:
    return [dtype.itemsize for dtype in dtypes if dtype is not None]


def vector(dtype: torch.dtype | None) -> Any:
    return None if dtype is None else torch.zeros(P, dtype=dtype)


def matrix(rows: int, dtype: torch.dtype) -> torch.Tensor:
    """Rows as they are in one buffer for vectors of any length: each aligned; one is a vector."""
    room = P if rows == 1 else triton.cdiv(P, 16) * 16
    return torch.zeros(rows, room, dtype=dtype)[:, :P]


def main(file: Path, capabilities: list[str]) -> None:
    launch._grid = lambda length, device, block: (block, 1)  # as on CUDA, not as interpreted
    seen: list[dict[str, Any]] = []
    for module in (triton_kernels, adamw_triton):
        for name, kernel in list(vars(module).items()):
            if name.endswith("_kernel"):
                setattr(module, name, Compiling(kernel, seen))
    found: dict[str, dict[str, Any]] = {}
    for capability in capabilities:
        driver.set_active(Driver(int(capability)))
        found[capability] = {}
        for name, run, reads, writes in launches():
            seen.clear()
            run()
            numbers = {"reads": sum(reads), "writes": sum(writes), "kernels": list(seen)}
            found[capability][name] = numbers
    file.write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
