"""What our scripts in a scorer's Python write: of each figure a number a prompt, or null."""

import json
from pathlib import Path

import numpy as np

from benchmarks.suite.kind import Scores, read_text
from runtime.errors import RealCompoError


def read_per_prompt(path: Path, prompts: int) -> Scores:
    """Raises: RealCompoError: there is none, or it is of other prompts."""
    found = json.loads(read_text(path, "the scorer's figures"))
    for name, values in found.items():
        if len(values) != prompts:
            raise RealCompoError(f"{path} has {len(values)} values of {name} for {prompts} prompts")
    return {name: np.asarray(values, np.float64) for name, values in found.items()}
