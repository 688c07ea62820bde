"""RealCompo at run time: a bundle of engines goes in, images come out. Needs neither diffusers nor transformers."""

from runtime.errors import RealCompoError
from runtime.layouts.layout import Layout, Region
from runtime.pipeline import RealCompo

__all__ = ["Layout", "RealCompo", "RealCompoError", "Region"]
