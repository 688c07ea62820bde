"""The table of nodes."""

from comfy_api.latest import ComfyExtension, io

from .bundle import BundleNode
from .draw import DrawNode
from .plan import PlanNode

NODES: tuple[type[io.ComfyNode], ...] = (BundleNode, PlanNode, DrawNode)


class RealCompoExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return list(NODES)
