"""Profiles, texts and pairs as arrays; no torch."""
