"""How good cheap stand-ins for the exact gradient are."""
