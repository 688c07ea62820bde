"""The node that plans a layout from a prompt."""

from comfy_api.latest import io

from runtime.layouts.writing import layout_json
from runtime.planners import make_planner

from .types import CATEGORY


class PlanNode(io.ComfyNode):
    """The offline planner: it needs no network and no language model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RealCompoPlan",
            display_name="RealCompo Plan",
            category=CATEGORY,
            description="Plans boxes for the objects of a prompt.",
            inputs=[io.String.Input("prompt", multiline=True, tooltip="Such as: two red balls left of a blue cube.")],
            outputs=[io.String.Output(display_name="layout")],
        )

    @classmethod
    def execute(cls, prompt: str) -> io.NodeOutput:
        return io.NodeOutput(layout_json(make_planner("offline")(prompt)))
