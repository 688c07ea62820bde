"""Other benchmarks as parts: the same command as by hand, in the part's process."""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.__main__ import app
from benchmarks.grids import Result


def run_command(*arguments: str) -> Result:
    """What `python -m benchmarks ARGUMENTS` hands over.

    Raises:
        SystemExit: it has failed, and has said why on stderr.
    """
    with TemporaryDirectory() as folder:
        file = Path(folder) / "result.json"
        sys.argv[1:] = arguments  # which the result names as its command
        code = app([*arguments, "--json", str(file)], standalone_mode=False)
        if code:
            sys.exit(code)
        result: Result = json.loads(file.read_text())
        return result
