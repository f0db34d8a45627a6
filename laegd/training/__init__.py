"""L7: training."""
