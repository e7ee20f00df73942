"""Pages that print the result of one job for a person."""
