"""The least time that a bundle's work takes on a device."""
