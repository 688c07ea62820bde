"""Scripts of ours that run in a scorer's Python, and take nothing but what that has: this package is not theirs."""

from pathlib import Path


def script(name: str) -> str:
    """The path of one."""
    return str(Path(__file__).with_name(name).resolve())
