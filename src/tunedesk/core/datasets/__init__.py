"""Imported datasets on disk: immutable, content-addressed columns, written in parts and opened without being read."""
