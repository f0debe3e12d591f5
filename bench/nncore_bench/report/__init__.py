"""The report of a run: its tables, remarks and sentences."""
