"""What a bundle takes of memory, loaded for one mode."""
