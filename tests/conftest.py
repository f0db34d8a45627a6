"""Test set-up: CPU devices and run-time checks of shapes and types."""

import os

# Several virtual CPU devices in one process hang on small machines unless XLA has more threads than there are cores.
os.environ.setdefault("NPROC", "16")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")

from jaxtyping import install_import_hook

install_import_hook("laegd", "beartype.beartype")
