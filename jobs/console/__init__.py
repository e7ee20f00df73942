"""What a person sees: progress, tables and log files."""
