"""Command line of the benchmarks: `python -m benchmarks latency | quality | gradients | gallery | roofline | report`.

The last line of stdout is one JSON object.
"""

import typer

from benchmarks.gallery.command import gallery
from benchmarks.gradients.command import gradients
from benchmarks.latency.command import latency
from benchmarks.quality.command import quality
from benchmarks.report.command import report
from benchmarks.roofline.command import roofline

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def benchmarks() -> None:
    """Measure a bundle. Tables go to stdout; its last line is one JSON object."""


app.command(epilog="Example: python -m benchmarks latency engines/tabletop --json outputs/latency.json")(latency)
app.command(epilog="Example: python -m benchmarks quality engines/tabletop --scenes 200")(quality)
app.command(epilog="Example: python -m benchmarks gradients engines/tabletop --plot outputs/gradients.png")(gradients)
app.command(epilog="Example: python -m benchmarks gallery engines/tabletop --out outputs/gallery.png")(gallery)
app.command(epilog="Example: python -m benchmarks roofline engines/tabletop --gpu h100")(roofline)
app.command(epilog="Example: python -m benchmarks report outputs/*.json --out outputs/report.html")(report)

if __name__ == "__main__":
    app(prog_name="python -m benchmarks")
