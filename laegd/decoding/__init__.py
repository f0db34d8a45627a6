"""L5: beliefs to feasible plans in JAX, batched."""
