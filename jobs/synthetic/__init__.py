"""The tables and labels of a synthetic company."""
