"""RealCompo in eager PyTorch, and the stock pipelines: what this project is measured against."""
