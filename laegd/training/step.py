"""One training step and one planning step, where network, diffusion and decoding meet."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, UInt

from laegd.config import ExperimentConfig, TrainingConfig
from laegd.decoding.decode import DecodeConfig, Decoded, Problem, decode
from laegd.diffusion.ddim import SamplerConfig, sample
from laegd.diffusion.loss import DenoiseFn, LossSums, joint_loss
from laegd.diffusion.schedules import DiffusionConfig, make_schedule
from laegd.graphs.encode import GraphBatch
from laegd.models.denoiser import Denoiser, ModelConfig
from laegd.training.parallel import AXIS, example_keys, over_devices


class TrainState(flax.struct.PyTreeNode):
    """All that a run carries from step to step."""

    step: Any  # int32 scalar; not annotated as an array, since trees of shapes have this form too
    params: Any
    ema_params: Any
    opt_state: Any


class TrainBatch(NamedTuple):
    """Graphs and their labels; NumPy arrays on the host, JAX arrays inside a step."""

    graph: GraphBatch
    offload: Float[Any, "batch user server"]  # 0/1
    share: Float[Any, "batch user server"]  # in [0, 1]
    position: Int[Any, "batch"]  # of the example in the whole batch, over all devices


class Metrics(NamedTuple):
    """Means over the real edges of a batch."""

    loss: Float[Array, ""]
    cross_entropy: Float[Array, ""]
    squared_error: Float[Array, ""]
    gradient_norm: Float[Array, ""]


def denoise_fn(model: Denoiser, params: Any) -> DenoiseFn:
    """Returns the network with its parameters, as diffusion knows it."""

    def denoise(xt: Array, yt: Array, t: Array, graph: Any) -> Any:
        return model.apply({"params": params}, xt, yt, t, graph)

    return denoise


def make_optimizer(config: TrainingConfig) -> optax.GradientTransformation:
    """Returns AdamW with clipping, warm-up and a cosine down to a hundredth."""
    warmup = min(config.warmup_steps, config.steps // 2)
    rate = optax.warmup_cosine_decay_schedule(
        init_value=config.learning_rate / 100,
        peak_value=config.learning_rate,
        warmup_steps=warmup,
        decay_steps=config.steps,
        end_value=config.learning_rate / 100,
    )
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), optax.adamw(rate, weight_decay=config.weight_decay))


def create_state(config: ExperimentConfig, graph: GraphBatch) -> TrainState:
    """Initialises parameters and optimiser; `graph` is any batch of the kind that the network will read."""
    edges = jnp.zeros(graph.edge_mask.shape)
    t = jnp.ones((len(graph.edge_mask), 1, 1))
    init = jax.jit(Denoiser(config.model).init)
    params = init(jax.random.PRNGKey(config.training.seed), edges, edges, t, graph)["params"]
    optimizer = make_optimizer(config.training)
    return TrainState(jnp.zeros((), jnp.int32), params, params, jax.jit(optimizer.init)(params))


def make_train_step(config: ExperimentConfig) -> Callable[[TrainState, TrainBatch], tuple[TrainState, Metrics]]:
    """Returns the step over all local devices: (state, batch [device, ...]) -> (state, metrics)."""
    model, schedule = Denoiser(config.model), make_schedule(config.diffusion)
    optimizer = make_optimizer(config.training)
    seed_key = jax.random.PRNGKey(config.training.seed + 1)  # + 1: not the key of the parameters

    def loss_sum(params: Any, batch: TrainBatch, keys: Array) -> tuple[Array, LossSums]:
        denoise, mask = denoise_fn(model, params), jnp.asarray(batch.graph.edge_mask)
        sums = joint_loss(denoise, keys, batch.graph, batch.offload, batch.share, mask, schedule)
        return sums.cross_entropy + sums.squared_error, sums  # Eq. 47

    def step(state: TrainState, batch: TrainBatch) -> tuple[TrainState, Metrics]:
        keys = example_keys(jax.random.fold_in(seed_key, state.step), batch.position)
        gradients, sums = jax.grad(loss_sum, has_aux=True)(state.params, batch, keys)
        gradients, sums = jax.lax.psum((gradients, sums), AXIS)
        # Sums over all devices divided by all real edges: the mean of the whole batch, however it is split.
        num_edges = jnp.maximum(sums.num_edges, 1.0)
        gradients = jax.tree.map(lambda g: g / num_edges, gradients)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        # The average starts short, so that early plans are not made with the initial parameters.
        decay = jnp.minimum(config.training.ema_decay, (1.0 + state.step) / (10.0 + state.step))
        ema = jax.tree.map(lambda e, p: decay * e + (1.0 - decay) * p, state.ema_params, params)
        cross_entropy, squared_error = sums.cross_entropy / num_edges, sums.squared_error / num_edges
        metrics = Metrics(cross_entropy + squared_error, cross_entropy, squared_error, optax.global_norm(gradients))
        return TrainState(state.step + 1, params, ema, opt_state), metrics

    return over_devices(step, reduced=True)


class PlanInput(NamedTuple):
    """Instances to plan; NumPy arrays on the host, JAX arrays inside a step."""

    graph: GraphBatch
    problem: Problem
    number: Int[Any, "batch"]  # names the instance's random stream


class Belief(NamedTuple):
    """What a network, or chance, says of a batch of instances."""

    offload: Float[Array, "batch sample user server"]  # probability
    share: Float[Array, "batch sample user server"]


def sample_keys(seed: UInt[Array, ""], number: Int[Array, "batch"], num_samples: int) -> Array:
    """Returns keys [batch sample 2]: sample i of an instance depends neither on N nor on the rest of the batch."""
    keys = example_keys(jax.random.PRNGKey(seed), number)
    return jax.vmap(lambda key: example_keys(key, jnp.arange(num_samples)))(keys)


@lru_cache
def make_sampler(
    model_config: ModelConfig, diffusion: DiffusionConfig, sampler: SamplerConfig, num_samples: int
) -> Callable[[tuple[Any, Any], PlanInput], Belief]:
    """Returns ((params, seed), instances [device, batch]) -> beliefs of all samples, over all local devices."""
    model, schedule = Denoiser(model_config), make_schedule(diffusion)

    def draw(replicated: tuple[Any, Array], batch: PlanInput) -> Belief:
        params, seed = replicated
        count, users, servers = batch.graph.edge_mask.shape
        keys = sample_keys(seed, batch.number, num_samples).reshape(count * num_samples, -1)
        graph = jax.tree.map(lambda x: jnp.repeat(x, num_samples, axis=0), batch.graph)

        drawn = sample(denoise_fn(model, params), keys, graph, (users, servers), schedule, sampler)
        shape = (count, num_samples, users, servers)
        return Belief(drawn.belief.reshape(shape), drawn.share.reshape(shape))

    return over_devices(draw, reduced=False)


@lru_cache
def make_random_sampler(num_samples: int) -> Callable[[Any, PlanInput], Belief]:
    """Returns the ablation of `make_sampler`: (seed, instances [device, batch]) -> uniform beliefs and shares."""

    def draw(seed: Array, batch: PlanInput) -> Belief:
        keys = sample_keys(seed, batch.number, num_samples)
        shape = batch.problem.usable.shape[1:]
        both = jax.vmap(jax.vmap(lambda key: jax.random.uniform(key, (2, *shape))))(keys)
        return Belief(both[:, :, 0], both[:, :, 1])

    return over_devices(draw, reduced=False)


@lru_cache
def make_decoder(decode_config: DecodeConfig) -> Callable[[None, tuple[Belief, Problem]], Decoded]:
    """Returns (None, (beliefs, problems) [device, batch]) -> best plans, over all local devices."""

    def best(_: None, batch: tuple[Belief, Problem]) -> Decoded:
        belief, problem = batch
        return decode(belief.offload, belief.share, problem, decode_config)

    return over_devices(best, reduced=False)


def labels_to_edges(
    server: Int[np.ndarray, "instance user"], share: Float[np.ndarray, "instance user"], num_servers: int
) -> tuple[Float[np.ndarray, "instance user server"], Float[np.ndarray, "instance user server"]]:
    """Spreads labels per user over edges: 0/1 offloading and shares, float32."""
    offload = (server[..., None] == np.arange(num_servers)).astype(np.float32)
    return offload, offload * share[..., None].astype(np.float32)
