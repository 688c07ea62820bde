"""What a first hour on a machine should tell of a bundle there, in a few minutes."""
