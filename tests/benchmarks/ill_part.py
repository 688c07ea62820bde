"""A part of an acceptance that ends in the way that it is told to."""

import os
import signal
import subprocess
import sys
import time

from benchmarks.acceptance.outcome import Job, NotHere, Outcome
from runtime.errors import RealCompoError

CHILD = "import time; time.sleep(600)"


def run(job: Job, how: str, folder: str = "") -> Outcome:
    print("at work", flush=True)
    match how:
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "hang":
            child = subprocess.Popen([sys.executable, "-c", CHILD])
            (job.pictures / "child").write_text(str(child.pid))
            print("step 7 of 9")  # which nothing here flushes
            time.sleep(600)
        case "refuse":
            raise RealCompoError("the bundle is upside down; turn it")
        case "break":
            raise ValueError("a bug")
        case "skip":
            raise NotHere("it is Sunday")
    return Outcome("passed", "all is well", {"offline": os.environ["HF_HUB_OFFLINE"]})
