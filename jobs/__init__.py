"""Spark jobs and the command line of InstructUE."""
