"""L8: trained models as solvers, and comparisons."""
