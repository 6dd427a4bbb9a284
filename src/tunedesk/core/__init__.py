"""Conversations, datasets, checks, counts and splits: no network, no terminal, files only when given one."""
