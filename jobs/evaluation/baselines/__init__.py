"""Baselines: other ways to turn the same profiles into vectors or features (`registry` lists them)."""
