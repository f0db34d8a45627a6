"""L5: hybrid diffusion in JAX; knows no network."""
