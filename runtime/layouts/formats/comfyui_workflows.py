"""ComfyUI's workflows, as it runs them (API) and as its editor saves them: the text boxes of GLIGEN in one."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from runtime.errors import FieldError
from runtime.layouts.formats.kind import Scene, Size, Thing
from runtime.layouts.formats.parts import has, part

BOX, TEXT = "GLIGENTextBoxApply", "CLIPTextEncode"
EMPTY = ("EmptyLatentImage", "EmptySD3LatentImage")  # nodes that say the image's size
WIDGETS = {BOX: ("text", "width", "height", "x", "y"), TEXT: ("text",), **dict.fromkeys(EMPTY, ("width", "height"))}
MUTED = (2, 4)  # modes of nodes that do not run


class Node(BaseModel):
    """As the API has it: inputs by name, a value or [node, output] where another node's is linked."""

    class_type: str
    inputs: dict[str, Any]


class _Slot(BaseModel):
    name: str
    link: int | str | None = None


class _SavedNode(BaseModel):
    id: int | str
    type: str
    mode: int = 0
    widgets_values: Any = None
    inputs: list[_Slot] = []


class _Saved(BaseModel):
    nodes: list[_SavedNode]
    links: list[Any]


def is_workflow(data: Any) -> bool:
    return _is_saved(data) or _is_api(data) or (has(data, "prompt") and _is_api(data["prompt"]))


def read_workflow(data: Any) -> Scene:
    """Raises: FieldError: it has no text box of GLIGEN, or one whose numbers other nodes make."""
    nodes = _saved(part(_Saved, data, "")) if _is_saved(data) else _posted(data if _is_api(data) else data["prompt"])
    boxes = {name: node for name, node in nodes.items() if node.class_type == BOX}
    if not boxes:
        raise FieldError("", f"its workflow has no {BOX} node, and so no boxes")
    things = [_thing(name, node.inputs) for name, node in boxes.items()]
    size = _size(nodes)
    return Scene(things, _prompt(nodes, boxes), "xywh", size, is_said=size is not None)


def _is_api(data: Any) -> bool:
    return isinstance(data, dict) and len(data) > 0 and all(has(node, "class_type", "inputs") for node in data.values())


def _is_saved(data: Any) -> bool:
    return has(data, "nodes", "links")


def _posted(data: dict[str, Any]) -> dict[str, Node]:
    return {name: part(Node, node, name) for name, node in data.items()}


def _saved(workflow: _Saved) -> dict[str, Node]:
    """The editor's nodes as the API has them."""
    sources = {
        f"{link[0]}": [f"{link[1]}", link[2]] for link in workflow.links if isinstance(link, list) and len(link) > 2
    }
    return {
        f"{node.id}": Node(class_type=node.type, inputs=dict(_inputs(node, sources)))
        for node in workflow.nodes
        if node.mode not in MUTED
    }


def _inputs(node: _SavedNode, sources: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    values = node.widgets_values
    yield from zip(WIDGETS.get(node.type, ()), values if isinstance(values, list) else (), strict=False)
    for slot in node.inputs:
        if slot.link is not None and f"{slot.link}" in sources:
            yield slot.name, sources[f"{slot.link}"]


def _thing(name: str, inputs: dict[str, Any]) -> Thing:
    box = [_number(name, inputs, side) for side in ("x", "y", "width", "height")]
    text = inputs.get("text")
    return Thing(f"{name}.inputs", text if isinstance(text, str) else None, box)


def _number(name: str, inputs: dict[str, Any], side: str) -> float:
    value = inputs.get(side)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FieldError(f"{name}.inputs.{side}", "it is no number; one that another node makes is not known here")
    return value


def _size(nodes: dict[str, Node]) -> Size | None:
    """Of the one size of empty latents; else nothing says it."""
    pairs = {_pair(node.inputs) for node in nodes.values() if node.class_type in EMPTY}
    return pairs.pop() if len(pairs) == 1 else None


def _pair(inputs: dict[str, Any]) -> Size | None:
    width, height = inputs.get("width"), inputs.get("height")
    if not (isinstance(width, int) and isinstance(height, int)) or min(width, height) < 1:
        return None
    return width, height


def _prompt(nodes: dict[str, Node], boxes: dict[str, Node]) -> str | None:
    """The text that the boxes' conditioning starts from, where it is one."""
    texts = {_text(nodes, node) for node in boxes.values()}
    return texts.pop() if len(texts) == 1 else None


def _text(nodes: dict[str, Node], node: Node) -> str | None:
    for _ in range(len(nodes)):
        if node.class_type != BOX:
            break
        link = node.inputs.get("conditioning_to")
        node = nodes.get(f"{link[0]}", node) if isinstance(link, list) and link else node
    text = node.inputs.get("text")
    return text if node.class_type == TEXT and isinstance(text, str) and text.strip() else None
