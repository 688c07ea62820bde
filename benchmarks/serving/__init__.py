"""A server under load, beside the library called in a loop."""
