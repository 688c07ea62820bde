"""One scene through several bundles, in pictures."""
