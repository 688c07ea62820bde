"""Planners on prompts of public benchmarks, judged by the benchmarks' own rules."""
