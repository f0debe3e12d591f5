"""Report: frames, tables and sentences from runs. pandas lives here; measuring never does."""
