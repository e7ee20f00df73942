"""Embed users, publish their vectors and look them up."""
