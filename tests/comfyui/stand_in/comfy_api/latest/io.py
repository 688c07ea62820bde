"""Inputs remember what they were told, and refuse what ComfyUI's have not."""

from typing import Any

PLAIN = ("id", "display_name", "optional", "tooltip", "lazy", "extra_dict", "raw_link", "advanced")
WIDGET = (*PLAIN, "default", "socketless")
NUMBER = (*WIDGET, "force_input", "min", "max", "step", "display_mode")
INPUTS = {  # what an input of each type may be told
    "Boolean": (*WIDGET, "force_input", "label_on", "label_off"),
    "Combo": (*WIDGET, "options", "control_after_generate", "upload", "image_folder", "remote"),
    "Float": (*NUMBER, "round", "gradient_stops"),
    "Int": (*NUMBER, "control_after_generate"),
    "String": (*WIDGET, "force_input", "multiline", "placeholder", "dynamic_prompts"),
    "MultiType": (*PLAIN, "types"),
}
OUTPUT = ("id", "display_name", "tooltip", "is_output_list")
SCHEMA = (
    "node_id", "display_name", "category", "inputs", "outputs", "hidden", "description", "search_aliases",
    "is_input_list", "is_output_node",
)  # fmt: skip


class Input:
    def __init__(self, kind: str, told: dict[str, Any]) -> None:
        unknown = told.keys() - set(INPUTS.get(kind, PLAIN))
        assert not unknown, f"{kind} inputs have no {unknown}"
        self.kind, self.id, self.told = kind, told["id"], told


class Output:
    def __init__(self, kind: str, told: dict[str, Any]) -> None:
        assert told.keys() <= set(OUTPUT), told
        self.kind, self.told = kind, told


class Kind:
    """A type of ComfyUI's."""

    def __init__(self, name: str) -> None:
        self.name = name

    def Input(self, id: str, *values: Any, **told: Any) -> Input:
        """Of values without a name only the types of MultiType stand second in ComfyUI."""
        return Input(self.name, {"id": id, **dict(zip(("types",), values, strict=False)), **told})

    def Output(self, **told: Any) -> Output:
        return Output(self.name, told)


Boolean, Combo, Float, Int, String = (Kind(name) for name in ("Boolean", "Combo", "Float", "Int", "String"))
Image, BoundingBox, Array, MultiType = (Kind(name) for name in ("Image", "BoundingBox", "Array", "MultiType"))
Custom = Kind


class Schema:
    def __init__(self, **told: Any) -> None:
        assert told.keys() <= set(SCHEMA), told
        self.__dict__.update(told)


class ComfyNode:
    pass


class NodeOutput:
    def __init__(self, *args: Any) -> None:
        self.args = args
