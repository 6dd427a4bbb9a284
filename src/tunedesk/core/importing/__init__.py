"""Conversations out of what people really have, and training files out again."""
