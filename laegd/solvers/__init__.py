"""L2: exact and heuristic solvers in NumPy."""
