"""What is measured: a case made real, from the user's network or ours to the step of a variant."""
