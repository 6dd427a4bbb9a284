"""Whole views, one module each."""
