"""Gradients as tables."""

from statistics import median

from benchmarks.grids import Grid, Result


def grids(found: Result) -> list[Grid]:
    """Losses over runs, and stand-ins beside the exact gradient."""
    losses = [(name, f"{sum(v) / len(v):.4f}", f"{v[-1]:.4f}") for name, v in found["losses"].items()]
    agreement = [
        (
            row["name"],
            *(f"{statistic(row['cosine']):.3f}" for statistic in (median, min, max)),
            f"{median(row['norm_ratio']):.2g}",
        )
        for row in found["agreement"]
    ]
    return [
        Grid("Attention loss a region over the evaluations", ("coefficients moved by", "mean", "last"), losses),
        Grid("Beside the exact gradient", ("gradient", "cosine", "lowest", "highest", "norm ratio"), agreement),
    ]
