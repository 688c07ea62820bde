"""One file a part: `run` takes the job and the options of its row in `benchmarks.acceptance.table`."""
