"""Stable Diffusion 2.x: OpenCLIP's text encoder without its last layer, which diffusers' folders leave out already."""

from dataclasses import replace

from export.families.sd1 import SD1

SD2 = replace(SD1, name="sd2", title="Stable Diffusion 2.x", linear_projection=True, pads=("!",))
