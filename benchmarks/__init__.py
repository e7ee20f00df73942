"""Benchmarks: each measures speed or quality and writes a table to results/."""
