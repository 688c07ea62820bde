"""Public suites of prompts: every mode drawn in their own folders, and judged by their own scorers."""
