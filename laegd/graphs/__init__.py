"""L3: instances as graph tensors, and data sets."""
