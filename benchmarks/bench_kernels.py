"""What the operations on flat vectors cost beside a copy, and beside the usual ways.

    python benchmarks/bench_kernels.py --output RESULTS.md

Without a GPU it measures the path on CPU, plain torch. Nothing is timed unless every operation
agrees with float64 at the measured size: else exit code 1.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from kernel_ops.adamw import ONE_KERNEL, ONE_PASS, adamw_case
from kernel_ops.apply import apply_case
from kernel_ops.cases import COMPILED, Case, short
from kernel_ops.check import build_block, build_vectors, errors, fill
from kernel_ops.delta import delta_case
from kernel_ops.measure import available, copied_bytes, memory_needed, time_case
from kernel_ops.models import NAMES, Shapes, model_shapes, synthetic_shapes
from kernel_ops.reductions import ROWS, cosine_case, gram_case
from kernel_ops.report import draw, markdown, matplotlib_figure, sections, summary
from results_file import check_output, machine, save

from metatlp.engine.arguments.command_line import parse_flags, run_script
from metatlp.engine.arguments.flags import at_least, flag
from metatlp.errors import InputError
from metatlp.kernels import implementation

OPS = ("accumulate_delta_", "write_delta_", "apply_delta_", "cosine_terms", "gram", "adamw")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
QUICK = {"parameters": 100_003, "repeats": 2}
# The usual ways are checked at this size: they are torch's, which need no check at every other.
SMALL = 1_200_001
GIB = 2**30


@dataclass(frozen=True)
class KernelArguments:
    models: str = flag("of mbert and xlmr-large", ",".join(NAMES))
    parameters: int | None = flag("so many in a made-up list of tensors, instead of the models")
    dtypes: str = flag("of fp32 and bf16, of the model or its gradients", ",".join(DTYPES))
    ops: str = flag("which operations", ",".join(OPS))
    repeats: int = flag("measured rounds; every round runs each way once", 15)
    warmup: int = flag("rounds before them", 2)
    threads: int | None = flag("threads")
    compile: bool = flag("also torch.compile of the formulas on CPU; on a GPU always", False)
    quick: bool = flag("a small vector, two rounds: does it run?", False)
    output: str | None = flag("write this Markdown file, and JSON and a PNG beside it")

    def __post_init__(self) -> None:
        at_least(1, self, "parameters", "repeats", "warmup", "threads")
        chosen("--models", self.models, NAMES)
        chosen("--dtypes", self.dtypes, DTYPES)
        chosen("--ops", self.ops, OPS)


@dataclass(frozen=True)
class Plan:
    """One case at one size.

    Attributes:
        ways: those that fit into the memory; none if ours does not.
        left_out: way -> why it is not measured.
    """

    model: str
    shapes: Shapes
    case: Case
    ways: list[str]
    left_out: dict[str, str]
    free: int

    @property
    def num_elements(self) -> int:
        return sum(shape.numel() for shape in self.shapes)


def main(argv: Sequence[str]) -> int:
    description = (__doc__ or "").splitlines()[0]
    (arguments,) = parse_flags((KernelArguments,), defaults, description, argv)
    output = check_output(arguments.output)
    if output:
        matplotlib_figure()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    results: dict[str, Any] = {
        "command": " ".join(["python benchmarks/bench_kernels.py", *argv]),
        "path": path(device),
        "machine": machine(device),
        "rounds": arguments.repeats,
        "warmup": arguments.warmup,
        "measured": [],
    }
    print(f"{results['path']}: {json.dumps(results['machine'])}", flush=True)
    plans = list(build_plans(arguments, device))
    if not correct(plans, device):
        return 1
    for plan in plans:
        results["measured"].append(measure(plan, arguments, device))
        save(output, markdown(results), results)
    for title, body in sections(results):
        print("\n".join(["", title, *body]))
    if output:
        draw(results, output.with_suffix(".png"))
    return 0


def defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    return dict(QUICK) if given.get("quick") else {}


def path(device: torch.device) -> str:
    """What is measured, in words."""
    found = implementation(device)
    return found if device.type == "cuda" else f"no GPU, so the path on CPU ({found})"


def chosen(name: str, value: str, allowed: Sequence[str] | Mapping[str, Any]) -> list[str]:
    """The words of a list with commas."""
    words = value.split(",")
    for word in words:
        if word not in allowed:
            raise InputError(f"{name}: '{word}' is none of {', '.join(allowed)}")
    return words


def build_plans(arguments: KernelArguments, device: torch.device) -> Iterator[Plan]:
    sizes = {name: model_shapes(name) for name in arguments.models.split(",")}
    if arguments.parameters:
        sizes = {"made-up list": synthetic_shapes(arguments.parameters)}
    free = available(device)
    for model, shapes in sizes.items():
        for dtype in arguments.dtypes.split(","):
            for case in build_cases(arguments.ops.split(","), DTYPES[dtype]):
                ways = ways_on(device, case, arguments.compile)
                yield fit(model, shapes, case, ways, free)


def ways_on(device: torch.device, case: Case, compiling: bool) -> list[str]:
    """Those that the device can do. On a CPU compiling takes time and a C++ compiler."""
    if device.type == "cuda":
        return list(case.ways)
    left_out = {ONE_KERNEL} if compiling else {ONE_KERNEL, COMPILED, ONE_PASS}
    return [way for way in case.ways if way not in left_out]


def build_cases(ops: Sequence[str], dtype: torch.dtype) -> list[Case]:
    fp32, bf16, int64 = torch.float32, torch.bfloat16, torch.int64
    found = []
    if "accumulate_delta_" in ops:
        found += [delta_case("accumulate_delta_", total, dtype) for total in (fp32, int64)]
    if "write_delta_" in ops:
        found += [delta_case("write_delta_", total, dtype) for total in (fp32, bf16, int64)]
    if "apply_delta_" in ops:
        forms = ["plain", "momentum", "int64"]
        # A model in bfloat16 is its own working copy.
        forms += ["bf16 working copy"] if dtype == fp32 else []
        found += [apply_case(form, dtype) for form in forms]
    if "cosine_terms" in ops:
        found += [cosine_case(rows, dtype) for rows in (1, ROWS)]
    if "gram" in ops:
        found.append(gram_case(ROWS, dtype))
    if "adamw" in ops and dtype == fp32:
        found.append(adamw_case())
    return found


def fit(model: str, shapes: Shapes, case: Case, ways: list[str], free: int) -> Plan:
    num_elements = sum(shape.numel() for shape in shapes)
    left_out = {}
    for way in ways:
        needed = memory_needed(case, way, num_elements, free)
        if needed > free:
            left_out[way] = f"needs {needed / GIB:.1f} GiB, {free / GIB:.1f} are free"
    kept = [way for way in ways if way not in left_out]
    # Without the first, ours, there is nothing to compare with.
    return Plan(model, shapes, case, kept if ways[0] in kept else [], left_out, free)


def correct(plans: Sequence[Plan], device: torch.device) -> bool:
    """Ours at the measured size, the usual ways at a small one. Prints what is off."""
    wrong = []
    for plan in plans:
        small = synthetic_shapes(min(SMALL, plan.num_elements))
        for ways, shapes in ((plan.ways[:1], plan.shapes), (plan.ways[1:], small)):
            if ways:
                wrong += wrong_ways(plan.case, ways, shapes, device)
    for line in wrong:
        print(f"WRONG: {line}", flush=True)
    print("nothing is timed" if wrong else "correct: all agree with float64", flush=True)
    return not wrong


def wrong_ways(case: Case, ways: Sequence[str], shapes: Shapes, device: torch.device) -> list[str]:
    num_elements = sum(shape.numel() for shape in shapes)
    torch._dynamo.reset()  # it compiles a function for a few kinds of arguments only
    vectors = build_vectors(case, num_elements, device)
    block = build_block(case, num_elements, device)
    return [line for way in ways for line in errors(case, way, vectors, block, shapes)]


def measure(plan: Plan, arguments: KernelArguments, device: torch.device) -> dict[str, Any]:
    """One entry of the results file."""
    case, num_elements = plan.case, plan.num_elements
    entry: dict[str, Any] = {
        "model": plan.model,
        "parameters": num_elements,
        "dtype": short(case.dtype),
        "op": case.op,
        "form": case.form,
        "bytes_per_element": case.bytes_per_element(),
        "traffic": case.traffic(),
        "num_bytes": case.bytes_per_element() * num_elements,
        "copied_bytes": copied_bytes(case, num_elements, plan.free),
        "left_out": plan.left_out,
    }
    if not plan.ways:
        return entry
    torch._dynamo.reset()
    vectors = build_vectors(case, num_elements, device)
    fill(vectors, build_block(case, num_elements, device))
    repeats, warmup = arguments.repeats, arguments.warmup
    seconds = time_case(
        case, plan.ways, vectors, plan.shapes, entry["copied_bytes"], repeats, warmup
    )
    found = summary(entry["num_bytes"], seconds)
    print(f"{plan.model} {entry['dtype']} {case.name}: {found['gb_per_s']:.1f} GB/s", flush=True)
    return {**entry, **found, "seconds": seconds}


if __name__ == "__main__":
    run_script(main)
