"""Measure how well vectors predict labels."""
