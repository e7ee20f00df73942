"""The output for a person: logging, progress, tables and results."""
