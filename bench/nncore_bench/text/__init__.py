"""Numbers, tables and frames as text. pandas and tabulate are imported here and by what prints."""
