"""Tabletop: a small procedural world with exact ground truth, the pair of models trained on it, and their scorer."""
