"""L1: the optimisation problem in NumPy."""
