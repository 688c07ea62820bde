"""What this pack's nodes hand on that ComfyUI has no name for."""

from comfy_api.latest import io

CATEGORY = "RealCompo"
Bundle = io.Custom("REALCOMPO_BUNDLE")  # a `runtime.RealCompo`
