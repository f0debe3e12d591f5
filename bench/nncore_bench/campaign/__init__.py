"""A campaign: workers started and asked in interleaved rounds, and a run recorded as it goes."""
