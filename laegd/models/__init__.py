"""L4: networks in Flax."""
