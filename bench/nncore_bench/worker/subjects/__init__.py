"""What is measured: from a case to a runnable training step, of the user's network or of SimpleNN."""
