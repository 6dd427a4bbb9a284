"""Tokens, exact and offline, and what they cost."""
