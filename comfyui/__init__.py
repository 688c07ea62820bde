"""A ComfyUI pack: RealCompo's bundles and pictures as nodes, in ComfyUI's own process.

ComfyUI imports this folder by its path, so its files import each other relatively. See README.md beside this file.
"""

from typing import Any


async def comfy_entrypoint() -> Any:
    """The pack's nodes, where ComfyUI looks for them."""
    try:
        from .extension import RealCompoExtension
    except ModuleNotFoundError as error:
        if error.name != "runtime":
            raise
        raise ImportError(
            "ComfyUI's Python has no RealCompo; this folder's README.md says how to install it"
        ) from error
    return RealCompoExtension()
