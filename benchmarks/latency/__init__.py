"""How long images take, beside stock pipelines and eager PyTorch."""
