"""Options that would change nothing: errors, since whoever gives one expects something of it."""

from collections.abc import Sequence

from laegd.cli.methods import ProofLimits, Sampling, is_model_free


def require_effects(
    methods: Sequence[str], networks: bool, sampling: Sampling, limits: ProofLimits, workers: int
) -> None:
    """Raises ValueError at the first option of a comparison that none of its methods heeds.

    Args:
        methods: Names of those that are compared.
        networks: Whether networks are compared beside them.
        sampling: Settings of methods that sample.
        limits: Of exact and certified.
        workers: Processes of methods without a network.
    """
    host = [name for name in methods if is_model_free(name)]
    sampled = networks or len(host) < len(methods)
    got = ", ".join(methods) or "networks alone"

    def among(expected: str) -> str:
        return f"Expected {expected} among the methods, got {got}. Add it, or leave that out."

    limits.require_heeded(bool({"exact", "certified"} & {*methods}), among("exact or certified"))
    heeded = {
        "--workers": (workers == 1 or bool(host), "one without a network, such as exact"),
        "--seed": (sampling.seed == 0 or sampled or "re" in methods, "one that draws, such as re"),
    }
    for option, (sound, expected) in heeded.items():
        if not sound:
            raise ValueError(f"{option}: {among(expected)}")
