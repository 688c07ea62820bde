"""The tools whose layouts are read."""

from runtime.layouts.formats.coco import COCO
from runtime.layouts.formats.comfyui import COMFYUI
from runtime.layouts.formats.gligen import GLIGEN
from runtime.layouts.formats.instancediffusion import INSTANCEDIFFUSION
from runtime.layouts.formats.kind import Format
from runtime.layouts.formats.layoutgpt import LAYOUTGPT
from runtime.layouts.formats.lmd import LMD
from runtime.layouts.formats.ours import LAYOUT
from runtime.layouts.formats.realcompo import REALCOMPO

FORMATS: dict[str, Format] = {
    "coco": COCO,
    "lmd": LMD,
    "layoutgpt": LAYOUTGPT,
    "instancediffusion": INSTANCEDIFFUSION,
    "gligen": GLIGEN,
    "realcompo": REALCOMPO,
    "comfyui": COMFYUI,
    "layout": LAYOUT,
}
