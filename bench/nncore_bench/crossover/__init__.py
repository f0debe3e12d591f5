"""The crossover: from which batch size the GPU is faster, or cheaper."""
