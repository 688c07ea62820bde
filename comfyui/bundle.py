"""The node that loads a bundle."""

from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import io

from runtime import RealCompo, RealCompoError
from runtime.backends import BACKENDS
from runtime.bundle.manifest import MANIFEST, Manifest
from runtime.messages import knob_words

from .types import CATEGORY, Bundle

KIND = "realcompo"  # of ComfyUI's folders of models; extra_model_paths.yaml may name more of it
DEVICES = ("auto", "cpu", "cuda")

folder_paths.add_model_folder_path(KIND, str(Path(folder_paths.models_dir) / KIND))


def bundles() -> dict[str, Path]:
    """The bundles in ComfyUI's folders of this kind, by name; the first of a name counts."""
    roots = [Path(root) for root in folder_paths.get_folder_paths(KIND)]
    found = sorted(path.parent for root in reversed(roots) for path in root.glob(f"*/{MANIFEST}"))
    return {path.name: path for path in found}


class BundleNode(io.ComfyNode):
    """Opens a bundle; ComfyUI keeps it as long as it keeps this node's output."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RealCompoBundle",
            display_name="RealCompo Bundle",
            category=CATEGORY,
            description="Loads a bundle of engines: two models that are drawn with together.",
            search_aliases=["realcompo", "load bundle"],
            inputs=[
                io.Combo.Input(
                    "bundle", options=list(bundles()), tooltip="A folder in models/realcompo that export build wrote."
                ),
                io.Combo.Input(
                    "backend", options=list(BACKENDS), default="auto", optional=True, advanced=True,
                    tooltip="What executes the engines; auto takes plans that run here, or else ONNX Runtime.",
                ),
                io.Combo.Input("device", options=list(DEVICES), default="auto", optional=True, advanced=True),
            ],
            outputs=[
                Bundle.Output(display_name="bundle"),
                io.String.Output(
                    display_name="recipe",
                    tooltip="What its distilled model wants of RealCompo's widgets, if it has one.",
                ),
            ],
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(cls, bundle: str, **_: Any) -> str:
        """A bundle that was built anew is loaded anew."""
        return (_path(bundle) / MANIFEST).read_text()

    @classmethod
    def execute(cls, bundle: str, backend: str = "auto", device: str = "auto") -> io.NodeOutput:
        pipe = RealCompo.load(_path(bundle), backend=backend, device=device)
        return io.NodeOutput(pipe, _recipe(pipe.manifest))


def _recipe(manifest: Manifest) -> str:
    return f"{manifest.recipe.name}: {knob_words(manifest.recipe.knobs)}" if manifest.recipe else ""


def _path(name: str) -> Path:
    """Of a name of the list: nothing else is opened."""
    found = bundles()
    if name not in found:
        raise RealCompoError(f"there is no bundle {name!r} in models/{KIND}; it has {', '.join(found) or 'none'}")
    return found[name]
