"""Saved results on one HTML page."""
