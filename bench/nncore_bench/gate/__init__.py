"""The regression gate: two revisions measured in pairs, the test that judges them, and its verdicts."""
