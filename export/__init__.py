"""Checkpoints -> bundle: engines that emit the attention maps which RealCompo balances (arXiv 2402.12908)."""
