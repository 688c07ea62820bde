"""How well a depth ControlNet draws 3D scenes."""
