"""One training step and one planning step, where network, diffusion or actions, and decoding meet."""

import signal
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, UInt

from laegd.config import ExperimentConfig, TrainingConfig
from laegd.decoding.decode import DecodeConfig, Decoded, Problem, decode
from laegd.decoding.explore import Actions, decode_actions
from laegd.diffusion.categorical import uniforms
from laegd.diffusion.ddim import SamplerConfig, sample, with_noisy_copies
from laegd.diffusion.loss import DenoiseFn, joint_loss
from laegd.diffusion.schedules import DiffusionConfig, make_schedule
from laegd.graphs.encode import GraphBatch
from laegd.models.actor_critic import ActorCritic
from laegd.models.denoiser import Denoiser, ModelConfig
from laegd.training.grlo import ActorCriticSums, act, actor_critic_loss
from laegd.training.parallel import example_keys, over_devices, sum_over_devices


class TrainState(flax.struct.PyTreeNode):
    """All that a run carries from step to step."""

    step: Any  # int32 scalar; not annotated as an array, since trees of shapes have this form too
    params: Any
    ema_params: Any
    opt_state: Any


class TrainBatch(NamedTuple):
    """Graphs, their problems and labels; NumPy arrays on the host, JAX arrays inside a step."""

    graph: GraphBatch
    problem: Problem
    offload: Float[Any, "batch user server"]  # 0/1
    share: Float[Any, "batch user server"]  # in [0, 1]
    position: Int[Any, "batch"]  # of the example in the whole batch, over all devices
    signal: Int[Any, "batch"]  # number of a signal that asks a process to end, 0: none


class Metrics(NamedTuple):
    """Means over the real edges of a batch."""

    loss: Float[Array, ""]
    cross_entropy: Float[Array, ""]
    squared_error: Float[Array, ""]
    gradient_norm: Float[Array, ""]


class ActorCriticMetrics(NamedTuple):
    """Means over the instances of a batch."""

    loss: Float[Array, ""]
    policy: Float[Array, ""]
    imitation: Float[Array, ""]
    value: Float[Array, ""]
    entropy: Float[Array, ""]
    reward: Float[Array, ""]
    gradient_norm: Float[Array, ""]


class Losses(NamedTuple):
    """Sums of a batch, or of a device's part of it."""

    total: Float[Array, ""]
    parts: tuple[Float[Array, ""], ...] | ActorCriticSums
    count: Float[Array, ""]  # of edges or instances, by which sums become means


LossFn = Callable[[Any, TrainBatch, Array], Losses]
"""(parameters, batch, one key per example) -> sums."""


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


@lru_cache
def _initialiser(learner: str, model_config: ModelConfig) -> Callable[..., Any]:
    return jax.jit((ActorCritic if learner == "grlo" else Denoiser)(model_config).init)


def create_state(config: ExperimentConfig, graph: GraphBatch) -> TrainState:
    """Initialises parameters and optimiser; `graph` is any batch of the kind that the network will read."""
    key = jax.random.PRNGKey(config.training.seed)
    initialise = _initialiser(config.learner, config.model)
    if config.learner == "grlo":
        params = initialise(key, graph)["params"]
    else:
        edges = jnp.zeros(graph.edge_mask.shape)
        t = jnp.ones((len(graph.edge_mask), 1, 1))
        params = initialise(key, edges, edges, t, graph)["params"]
    optimizer = make_optimizer(config.training)
    return TrainState(jnp.zeros((), jnp.int32), params, params, jax.jit(optimizer.init)(params))


def _denoising_loss(config: ExperimentConfig) -> LossFn:
    model, schedule = Denoiser(config.model), make_schedule(config.diffusion)

    def losses(params: Any, batch: TrainBatch, keys: Array) -> Losses:
        denoise, mask = denoise_fn(model, params), jnp.asarray(batch.graph.edge_mask)
        sums = joint_loss(denoise, keys, batch.graph, batch.offload, batch.share, mask, schedule)
        total = sums.cross_entropy + sums.squared_error  # Eq. 47
        return Losses(total, (sums.cross_entropy, sums.squared_error), sums.num_edges)

    return losses


def _actor_critic_loss(config: ExperimentConfig) -> LossFn:
    model = ActorCritic(config.model)

    def losses(params: Any, batch: TrainBatch, keys: Array) -> Losses:
        total, sums = actor_critic_loss(model, params, keys, batch.graph, batch.problem, config.grlo)
        return Losses(total, sums, jnp.float32(len(keys)))

    return losses


_LEARNERS: dict[str, tuple[Callable[[ExperimentConfig], LossFn], Callable[..., Metrics | ActorCriticMetrics]]] = {
    "diffusion": (_denoising_loss, Metrics),
    "grlo": (_actor_critic_loss, ActorCriticMetrics),
}


StepFn = Callable[[TrainState, TrainBatch], tuple[TrainState, Metrics | ActorCriticMetrics, Array]]
"""(state, batch [device, ...]) -> (state, metrics, signal): on which all processes agree, so that they end together."""


@lru_cache
def make_train_step(config: ExperimentConfig) -> StepFn:
    """Returns the step over the devices of all processes; the same settings give the same, compiled, function."""
    make_losses, metrics_of = _LEARNERS[config.learner]
    losses = make_losses(config)
    optimizer = make_optimizer(config.training)
    seed_key = jax.random.PRNGKey(config.training.seed + 1)  # + 1: not the key of the parameters

    def loss_sum(params: Any, batch: TrainBatch, keys: Array) -> tuple[Array, Losses]:
        sums = losses(params, batch, keys)
        return sums.total, sums

    def step(state: TrainState, batch: TrainBatch) -> tuple[TrainState, Metrics | ActorCriticMetrics, Array]:
        keys = example_keys(jax.random.fold_in(seed_key, state.step), batch.position)
        gradients, sums = jax.grad(loss_sum, has_aux=True)(state.params, batch, keys)
        asked = jax.nn.one_hot(batch.signal.max(), signal.NSIG)  # whose sum tells the numbers of all processes
        gradients, sums, asked = sum_over_devices((gradients, sums, asked))
        # Sums over all devices divided by all edges or instances: the mean of the whole batch, however it is split.
        count = jnp.maximum(sums.count, 1.0)
        gradients = jax.tree.map(lambda g: g / count, gradients)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        # The average starts short, so that early plans are not made with the initial parameters.
        decay = jnp.minimum(config.training.ema_decay, (1.0 + state.step) / (10.0 + state.step))
        ema = jax.tree.map(lambda e, p: decay * e + (1.0 - decay) * p, state.ema_params, params)
        parts = (part / count for part in sums.parts)
        metrics = metrics_of(sums.total / count, *parts, optax.global_norm(gradients))
        agreed = jnp.max(jnp.where(asked > 0, jnp.arange(signal.NSIG), 0))
        return TrainState(state.step + 1, params, ema, opt_state), metrics, agreed

    return over_devices(step, reduced=True)


class PlanInput(NamedTuple):
    """Instances to plan; NumPy arrays on the host, JAX arrays inside a step."""

    graph: GraphBatch
    problem: Problem
    number: Int[Any, "batch"]  # names the instance's random stream


class Stream(NamedTuple):
    """Which random numbers a call draws."""

    seed: UInt[Any, ""]
    first: UInt[Any, ""] = np.uint32(0)
    """Number of the first sample."""


class Belief(NamedTuple):
    """What a network, or chance, says of a batch of instances."""

    offload: Float[Array, "batch belief user server"]  # probability; of every sample and step, then copies of all
    share: Float[Array, "batch sampled user server"]  # of every sample and step, for its copies too


NOISE_STREAM = 2**32 - 1  # of the noise of copies; no instance has this number


def sample_keys(stream: Stream, number: Int[Array, "batch"], num_samples: int) -> Array:
    """Returns keys [batch sample 2]: sample i of an instance depends neither on N nor on the rest of the batch."""
    keys = example_keys(jax.random.PRNGKey(stream.seed), number)
    return jax.vmap(lambda key: example_keys(key, _samples(stream, num_samples)))(keys)


def _samples(stream: Stream, num_samples: int) -> UInt[Array, "sample"]:
    return stream.first + jnp.arange(num_samples, dtype=jnp.uint32)


@lru_cache
def make_sampler(
    model_config: ModelConfig, diffusion: DiffusionConfig, sampler: SamplerConfig, num_samples: int
) -> Callable[[tuple[Any, Stream], PlanInput], Belief]:
    """Returns ((params, stream), instances [device, batch]) -> beliefs of all samples, over all local devices."""
    model, schedule = Denoiser(model_config), make_schedule(diffusion)

    def draw(replicated: tuple[Any, Stream], batch: PlanInput) -> Belief:
        params, stream = replicated
        keys = sample_keys(stream, batch.number, num_samples)
        edge_shape = batch.graph.edge_mask.shape[1:]
        drawn = sample(denoise_fn(model, params), keys, batch.graph, edge_shape, schedule, sampler)
        noise_key = jax.random.fold_in(jax.random.PRNGKey(stream.seed), NOISE_STREAM)
        noise_keys = example_keys(noise_key, _samples(stream, num_samples))
        belief = with_noisy_copies(noise_keys, drawn.belief, sampler.noisy_copies)
        return Belief(*(x.reshape(len(x), -1, *edge_shape) for x in (belief, drawn.share)))

    return over_devices(draw, reduced=False, settings=("sampler", (model_config, diffusion, sampler, num_samples)))


@lru_cache
def make_random_sampler(num_samples: int) -> Callable[[Stream, PlanInput], Belief]:
    """Returns the ablation of `make_sampler`: (stream, instances [device, batch]) -> uniform beliefs and shares."""

    def draw(stream: Stream, batch: PlanInput) -> Belief:
        keys = sample_keys(stream, batch.number, num_samples)
        shape = (2, *batch.problem.usable.shape[1:])
        both = jax.vmap(lambda keys: uniforms(keys, shape))(keys)
        return Belief(both[:, :, 0], both[:, :, 1])

    return over_devices(draw, reduced=False, settings=("random_sampler", num_samples))


@lru_cache
def make_decoder(decode_config: DecodeConfig) -> Callable[[None, tuple[Belief, Problem]], Decoded]:
    """Returns (None, (beliefs, problems) [device, batch]) -> best plans, over all local devices."""

    def best(_: None, batch: tuple[Belief, Problem]) -> Decoded:
        belief, problem = batch
        return decode(belief.offload, belief.share, problem, decode_config)

    return over_devices(best, reduced=False, settings=("decoder", decode_config))


@lru_cache
def make_actor(model_config: ModelConfig, num_samples: int) -> Callable[[tuple[Any, Stream], PlanInput], Actions]:
    """Returns ((params, stream), instances [device, batch]) -> starts of exploration, over all local devices."""
    model = ActorCritic(model_config)

    def draw(replicated: tuple[Any, Stream], batch: PlanInput) -> Actions:
        params, stream = replicated
        return act(model, params, sample_keys(stream, batch.number, num_samples), batch.graph, batch.problem)

    return over_devices(draw, reduced=False, settings=("actor", (model_config, num_samples)))


@lru_cache
def make_explorer(decode_config: DecodeConfig) -> Callable[[None, tuple[Actions, Problem]], Decoded]:
    """Returns (None, (actions, problems) [device, batch]) -> best plans, over all local devices."""

    def best(_: None, batch: tuple[Actions, Problem]) -> Decoded:
        actions, problem = batch
        return decode_actions(actions, problem, decode_config)

    return over_devices(best, reduced=False, settings=("explorer", decode_config))


def make_planner(
    config: ExperimentConfig, sampler: SamplerConfig, decode_config: DecodeConfig, num_samples: int
) -> tuple[Callable[..., Belief | Actions], Callable[..., Decoded]]:
    """Returns the two programs of planning with a run's network: what it says, and the plans made of that.

    The same settings give the same, compiled, functions.
    """
    if config.learner == "grlo":
        return make_actor(config.model, num_samples), make_explorer(decode_config)
    return make_sampler(config.model, config.diffusion, sampler, num_samples), make_decoder(decode_config)


def labels_to_edges(
    server: Int[np.ndarray, "instance user"], share: Float[np.ndarray, "instance user"], num_servers: int
) -> tuple[Float[np.ndarray, "instance user server"], Float[np.ndarray, "instance user server"]]:
    """Spreads labels per user over edges: 0/1 offloading and shares, float32."""
    offload = (server[..., None] == np.arange(num_servers)).astype(np.float32)
    return offload, offload * share[..., None].astype(np.float32)


for _kind in (Actions, Belief, Decoded, GraphBatch, PlanInput, Problem, Stream):
    jax.export.register_namedtuple_serialization(_kind, serialized_name=f"laegd.{_kind.__name__}")
