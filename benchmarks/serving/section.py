"""What `report` shows of serving."""

from benchmarks.grids import Result
from benchmarks.sections import Key, Section, embed
from benchmarks.serving.figures import draw
from benchmarks.serving.tables import grids


def section(found: Result) -> Section:
    settings, lone, saturated, overload = (found[name] for name in ("settings", "lone", "saturated", "overload"))
    return Section(
        "Serving",
        f"{found['bundle']['pair']}, pictures of {settings['steps']} steps, at most {settings['max_batch']} in a run, "
        f"threads: {settings['threads']}. A server in a process of its own, beside the library called in a loop; every "
        "picture is compared with the library's.",
        keys=(
            Key(f"{saturated['vs_library']:.2f}×", "the library's throughput, at saturation"),
            Key(f"{lone['added_ms']:.1f} ms", "that a lone request takes longer than the library"),
            Key(str(overload["wrong"] + overload["lost"]), f"wrong or lost of {overload['requests']} under overload"),
            Key(f"{overload['memory_growth']:.1%}", "more memory in the course of the overload"),
        ),
        figure=embed("Seconds for clients by load", draw(found)),
        grids=tuple(grids(found)),
    )
