"""Edits: each one undoable operation as data, journalled, applied and laid over an immutable dataset."""
