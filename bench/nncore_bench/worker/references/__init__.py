"""Subjects that are references: probes of the machine, a network of known work, and known times."""
