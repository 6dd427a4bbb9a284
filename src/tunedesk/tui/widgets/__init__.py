"""Generic parts that know no domain."""
