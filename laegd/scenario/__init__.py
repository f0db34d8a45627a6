"""L0: network physics in NumPy; no learning."""
