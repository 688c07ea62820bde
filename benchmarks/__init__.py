"""Measurements of RealCompo: image quality, and latency beside stock pipelines."""
