"""Other tools' layouts: one file a format, and a table of them."""
