"""Where engine libraries keep what they compiled on this machine, so that the next start need not do it again."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/realcompo`, by default `~/.cache/realcompo`; it may be deleted at any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "realcompo"
