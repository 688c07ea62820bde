"""A roofline as tables."""

from benchmarks.grids import Grid, Result
from benchmarks.roofline.gpus import ELEMENT_BYTES


def grids(found: Result) -> list[Grid]:
    """What a call is, the floors of calls, steps and images, and what was reached where it was measured."""
    return [_work(found), _floors(found), _stages(found), *([_measured(found)] if found["measured"] else [])]


def _work(found: Result) -> Grid:
    columns = ("engine", "rows", "GFLOP", "weights", "activations", "other")
    counts = ("weights", "activations", "element_operations")
    rows = [
        (
            engine["role"],
            str(engine["rows"]),
            f"{engine['cost']['flops'] / 1e9:.3g}",
            *(f"{engine['cost'][count] / 1e6:.3g}" for count in counts),
        )
        for engine in found["engines"]
    ]
    return Grid("A call, in 10^9 and 10^6 elements", columns, rows)


def _floors(found: Result) -> Grid:
    rows = [
        (
            engine["role"],
            str(engine["rows"]),
            *(f"{_milliseconds(floor['seconds'])} {floor['bound']}" for floor in engine["floors"].values()),
        )
        for engine in found["engines"]
    ]
    return Grid(f"Least ms of a call on {_describe(found)}", ("engine", "rows", *_precisions(found)), rows)


def _stages(found: Result) -> Grid:
    stages = [
        (name, *(_milliseconds(floors[p]) for p in _precisions(found))) for name, floors in found["stages"].items()
    ]
    sizes = (f"{found['weights'] * ELEMENT_BYTES[p] / 1e9:.2g}" for p in _precisions(found))
    weights = (f"weights, GB of {found['ceilings']['memory']:.0f}", *sizes)
    return Grid("Engines one after another", ("floor, ms", *_precisions(found)), [*stages, weights])


def _measured(found: Result) -> Grid:
    rows = [
        (
            row["role"],
            str(row["rows"]),
            _milliseconds(row["seconds"]),
            f"{row['tflops'] * 1e3:.3g}",
            f"{row['share']:.0%}",
        )
        for row in found["measured"]
    ]
    columns = ("engine", "rows", "ms", "GFLOP/s", "of the ceiling")
    return Grid(f"Measured on {found['device']}, {found['precision']}", columns, rows)


def _precisions(found: Result) -> list[str]:
    return list(found["ceilings"]["tflops"])


def _describe(found: Result) -> str:
    ceilings = found["ceilings"]
    rates = ", ".join(f"{name} {tflops:.4g}" for name, tflops in ceilings["tflops"].items())
    return f"{ceilings['name']} (TFLOP/s: {rates}; {ceilings['bandwidth']:.4g} GB/s)"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g}"
