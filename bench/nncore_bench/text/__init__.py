"""Numbers, tables and frames as text. pandas is imported here and by what prints."""
