"""SQL over the journal's segments, by DuckDB."""
