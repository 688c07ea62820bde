"""How good images are, in each way of combining the models."""
