"""The benchmarks' commands: options, tables and pictures around what the modules of the same names measure."""
