"""The exporter's closed vocabularies, beside those of `runtime.words`."""

from typing import Literal

Component = Literal[
    "unet", "vae", "text_encoder", "text_encoder_2", "controlnet", "adapter"
]  # of a checkpoint's folder
