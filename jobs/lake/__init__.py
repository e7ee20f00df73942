"""The project's Delta tables: definitions, reading, writing and the record of runs."""
