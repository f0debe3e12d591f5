"""The instrument tested: known times, injected delays and equal code on this machine."""
