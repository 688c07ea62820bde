"""How far what an engine computes is from what it should."""

import numpy as np


def relative_error(found: np.ndarray, target: np.ndarray, scale: float | None = None) -> float:
    """max |found - target| / max |target| of two arrays of one shape; 0 of zeros that are found, as an untrained
    ControlNet gives them, infinite of others in their place; NaN where either has one.

    Args:
        scale: what to divide by instead, of more than these.
    """
    difference = float(np.abs(found - target).max())
    scale = float(np.abs(target).max()) if scale is None else scale
    if scale == 0:
        return 0.0 if difference == 0 else float("nan" if np.isnan(difference) else "inf")
    return difference / scale
