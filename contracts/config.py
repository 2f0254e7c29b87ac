"""The configuration of a run, typed and bounded; every default is here and nowhere else."""

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from contracts.address import MEMORY, Address
from contracts.budgets import PerformanceBudgets
from contracts.growth import Layout, Path

Count: TypeAlias = Annotated[int, Meta(ge=0)]
Positive: TypeAlias = Annotated[int, Meta(ge=1)]
Seconds: TypeAlias = Annotated[float, Meta(gt=0)]
Share: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
Amount: TypeAlias = Annotated[float, Meta(ge=0)]


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the configuration file; a key that it does not have is an error."""


class RunConfig(_Section, frozen=True):
    """What is run, how long, from which seed."""

    workload: str = "mnist1d"
    """What is trained."""
    policy: Literal["none", "random", "heuristic"] = "heuristic"
    """Who decides about growth."""
    seed: Count = 0
    """Initial weights, order of the data, and what is drawn in growth."""
    epochs: Positive | None = None
    """Length in epochs; excludes `gflop`."""
    gflop: Annotated[float, Meta(gt=0)] | None = None
    """Length in training GFLOP, growth's own included; excludes `epochs`."""
    bus: Address = MEMORY
    """Where messages travel: inside the process, or over a Redis that others can listen at."""
    out: str = "runs"
    """Folder under which the run's own folder is made."""
    compare: bool = False
    """Afterwards train the same host ungrown at equal training FLOPs."""
    threads: Positive = 1
    """Torch's threads inside one operation, in the training thread."""


class TrainConfig(_Section, frozen=True):
    """How the host is trained."""

    batch_size: Positive = 100
    """Training examples a step."""
    learning_rate: Annotated[float, Meta(gt=0)] = 1e-2
    """Adam's, until `decay_from`."""
    epoch_steps: Positive = 40
    """Optimizer steps from one boundary to the next."""
    decay_from: Share = 0.7
    """Share of the budget after which the learning rate falls linearly."""
    final_rate: Share = 0.02
    """Learning rate at the end, as a share of `learning_rate`."""
    clip_norm: Amount = 0.0
    """Largest gradient norm of one owner (host or seed); 0 does not clip."""
    validation_examples: Count = 0
    """Validation examples looked at after each epoch; 0 is all of them."""
    seed_rate: Annotated[float, Meta(gt=0)] = 1.0
    """Learning rate of a seed that is not part of the host yet, as a multiple of the host's."""
    seed_warmup_steps: Count = 0
    """Steps in which a new seed's learning rate rises linearly to its own; 0 starts at once."""


class GateConfig(_Section, frozen=True):
    """Thresholds of the gates."""

    jump_max: Amount = 1e-6
    """G0: largest relative change of the host's output at the graft."""
    grad_norm_min: Amount = 1e-9
    """G1: a seed whose gradient is smaller does not learn."""
    grad_norm_max: Annotated[float, Meta(gt=0)] = 1e3
    """G1: a seed whose gradient is larger explodes."""
    rms_ratio_max: Annotated[float, Meta(gt=0)] = 10.0
    """G2: a seed's contribution stays of the host's order."""
    interface_loss_ratio_max: Annotated[float, Meta(gt=0)] = 1.02
    """G3: validation loss with the seed over without it."""
    isolation_violations_max: Count = 2
    """G1, G3: how often a seed may have touched the host while it was isolated."""
    gain_min: Amount = 0.002
    """G4: counterfactual gain in validation loss, as a share of the loss without the seed."""
    rent: Amount = 0.0
    """G4: gain asked for on top for each 1,000 parameters of the seed, as the same share."""


class GrowthConfig(_Section, frozen=True):
    """Where, how much and how fast the network may grow."""

    sites: tuple[str, ...] | str = ()
    """Names or suffixes, or one regular expression; empty takes the workload's own."""
    layouts: dict[str, Layout] = {}
    """Layout by site name, where the probe pass would guess wrong."""
    max_params: Positive | None = None
    """Parameters of the grown network at most; the workload's own limit if not given."""
    max_active: Positive = 3
    """Seeds between germination and fossilization at once; the heuristic grows one at a time."""
    max_per_site: Positive = 8
    """Seeds that one site can hold, fossilized ones included."""
    shadow_every: Positive = 4
    """An isolated seed learns on every n-th batch."""
    embargo_epochs: Count = 8
    """Rest of a site after a cull."""
    counterfactual_every: Positive = 2
    """Epochs between two measurements of a seed's gain."""
    max_stage: Positive = 1
    """Blueprints up to this curriculum stage are on offer: 2 adds cheap ones, 3 dear ones, 4 experiments."""
    approved: tuple[str, ...] = ()
    """Ids of the experimental blueprints that may be grown, once `max_stage` reaches theirs."""
    path: Path = Path()
    gates: GateConfig = GateConfig()


class HeuristicConfig(_Section, frozen=True):
    """The heuristic policy. Shares are of the run's whole budget in training FLOPs."""

    race_at: Share = 0.02
    """Progress at which the first race begins: early, while forks of the small host are cheap."""
    grafts: Positive = 3
    """Seeds that share the parameters on offer; each gets an equal part of what is left."""
    kind_shares: tuple[Share, Share] = (0.08, 0.045)
    """What the two rounds of the race between blueprints may cost; twice that if less would tell nothing."""
    kind_survivors: Positive = 3
    """Blueprints that go on to the second round."""
    kind_finalists: Positive = 1
    """Blueprints that race between sites."""
    site_share: Share = 0.045
    """What the race between sites may cost."""
    tie: Share = 0.5
    """A site whose gain is at least this share of the best one's ties with it: the one upstream is taken."""
    latest: Share = 0.6
    """Progress after which nothing more is germinated: too little is left to pay for it."""
    plateau_epochs: Positive = 10
    """Epochs over which the training loss has to improve, or it is on a plateau."""
    plateau_gain: Share = 0.02
    """Improvement over that span, as a share of the loss, below which it is on a plateau."""
    rent: Amount = 0.02
    """Gain that a seed has to bring, as a share of the validation loss, times its share of all parameters."""


class TamiyoConfig(_Section, frozen=True):
    """The controller."""

    window_epochs: Positive = 3
    """Observation window of a command, after which its field report is written."""
    heuristic: HeuristicConfig = HeuristicConfig()


class KernelConfig(_Section, frozen=True):
    """Kernels: blueprints that are compiled for the sites' shapes before they are grown."""

    prefetch: bool = True
    """Compile in the background, in processes of their own, what the sites can use."""
    store: str = ""
    """Folder of the kernel store; empty is `kernels` in the user's cache."""
    strategy: Literal["fast", "standard", "aggressive"] = "standard"
    """Export only; compare outputs and gradients too; or also compile natively where that pays."""
    workers: Annotated[int, Meta(ge=1, le=2)] = 2
    """Compiler processes at once."""
    compile_s: Seconds = 60.0
    """Seconds that one kernel may take, after which its process is ended."""
    memory_mb: Annotated[int, Meta(ge=512)] = 2048
    """Resident memory that a compiler process may have."""
    store_mb: Positive = 100
    """Size of the store above which kernels that nobody holds are removed, the longest unused first."""


class BudgetConfig(_Section, frozen=True):
    """What a boundary may take, in milliseconds."""

    epoch_boundary_ms: Positive = PerformanceBudgets().epoch_boundary_ms
    """The pause between two epochs, validation not counted."""
    tamiyo_inference_ms: Positive = PerformanceBudgets().tamiyo_inference_ms
    """How long a boundary waits for a decision before it goes on with "do nothing"."""
    adaptation_processing_ms: Positive = PerformanceBudgets().adaptation_processing_ms
    """What the grafting engine has for its verdict, however late the decision came."""


class ServeConfig(_Section, frozen=True):
    """The metrics endpoint."""

    enabled: bool = False
    """Serve metrics while the run lasts."""
    host: str = "127.0.0.1"
    """An address of this machine alone."""
    port: Annotated[int, Meta(ge=0, le=65535)] = 9464
    """0 takes any free port."""
    render_every_s: Seconds = 1.0
    """A scrape is answered from bytes rendered at most this often, between boundaries."""


class Config(_Section, frozen=True):
    """The whole configuration."""

    run: RunConfig = RunConfig()
    train: TrainConfig = TrainConfig()
    growth: GrowthConfig = GrowthConfig()
    tamiyo: TamiyoConfig = TamiyoConfig()
    kernels: KernelConfig = KernelConfig()
    budgets: BudgetConfig = BudgetConfig()
    serve: ServeConfig = ServeConfig()
