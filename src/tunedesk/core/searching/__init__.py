"""Finding rows: the query language, its evaluation chunk by chunk, and what the matched rows have in common."""
