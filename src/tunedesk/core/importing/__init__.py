"""Conversations out of what people really have, and training files out again."""

SUFFIXES = (
    ".gz", ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".xlsx", ".xlsb", ".ods", ".txt", ".log",
    ".md", ".html", ".xml", ".vtt", ".srt", ".eml", ".mbox", ".zip",
)  # fmt: skip
"""Endings of names by which files are offered for import; their format is told by content."""
