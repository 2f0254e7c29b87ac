"""The configuration of a run, typed and bounded; every default is here and nowhere else."""

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from contracts.address import MEMORY, Address
from contracts.budgets import PerformanceBudgets
from contracts.growth import Layout, Path

Count: TypeAlias = Annotated[int, Meta(ge=0)]
RandomSeed: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Positive: TypeAlias = Annotated[int, Meta(ge=1)]
Seconds: TypeAlias = Annotated[float, Meta(gt=0)]
Share: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
Amount: TypeAlias = Annotated[float, Meta(ge=0)]
Momentum: TypeAlias = Annotated[float, Meta(ge=0, le=0.9999)]
Weight: TypeAlias = Annotated[float, Meta(gt=0)]


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the configuration file; a key that it does not have is an error."""


class RunConfig(_Section, frozen=True):
    """What is run, how long, from which seed."""

    workload: str = "mnist1d"
    """What is trained."""
    policy: Literal["none", "random", "heuristic"] = "heuristic"
    """Who decides about growth."""
    seed: RandomSeed = 0
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
    """The optimizer's, at its highest."""
    epoch_steps: Positive = 40
    """Optimizer steps from one boundary to the next."""
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop", "adam_amsgrad"] = "adam"
    """What takes the steps; from Python a task can bring its own."""
    momentum: Momentum | None = None
    """Of sgd (0.9 if not given) and rmsprop (0)."""
    betas: tuple[Momentum, Momentum] | None = None
    """Of adam, adamw and adam_amsgrad (0.9 and 0.999 if not given)."""
    weight_decay: Amount | None = None
    """Of any optimizer; 0.01 for adamw and 0 for the others if not given."""
    schedule: Literal["linear", "one_cycle", "cosine", "plateau", "constant"] = "linear"
    """How the learning rate goes over the budget, or with the validation loss; a task can bring its own."""
    decay_from: Share = 0.7
    """linear: share of the budget after which the learning rate falls linearly."""
    rise_until: Share = 0.3
    """one_cycle: share of the budget until which the learning rate rises."""
    start_rate: Share = 0.04
    """one_cycle: learning rate at the start, as a share of `learning_rate`."""
    final_rate: Share = 0.02
    """Learning rate at the end, for plateau the lowest, as a share of `learning_rate`."""
    cycled_momentum: tuple[Momentum, Momentum] = (0.85, 0.95)
    """one_cycle: least and most of momentum, or of the first beta, where there is one."""
    plateau_epochs: Positive = 10
    """plateau: epochs running without a lower validation loss, after which the learning rate falls."""
    plateau_gain: Share = 1e-4
    """plateau: share of the lowest loss so far by which one has to be lower to count."""
    plateau_factor: Annotated[float, Meta(ge=0.01, le=0.99)] = 0.5
    """plateau: what the learning rate is multiplied by."""
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
    conservative_factor: Annotated[float, Meta(gt=0, le=1)] = 0.5
    """In conservative mode upper bounds (G3: their excess over 1) are this share of what they are else, and
    lower bounds are divided by it."""


class GuardConfig(_Section, frozen=True):
    """When an operation of the grafting engine or of the safe point is refused for a while: it keeps failing.

    It fails when it raises, or takes longer than its limit; 0 is no limit.
    """

    failures_max: Positive = 3
    """Failures in a row after which the operation is refused."""
    rest_epochs: Positive = 5
    """Epochs after which one more try is let through, and decides."""
    graft_ms: Amount = 50.0
    """To plan a germination and build its module; to put the module in, the copy of its way back not
    counted."""
    change_ms: Amount = 20.0
    """To judge an advance; each other change at the safe point."""
    rollback_ms: Amount = 500.0
    """To bring the host back to before a graft."""


class DistillConfig(_Section, frozen=True):
    """A teacher for live seeds whose fate is open: a frozen copy of the network before it ran with them."""

    weight: Amount = 0.0
    """Of the distance to the teacher's outputs, beside the task's loss; 0 has no teacher."""
    temperature: Annotated[float, Meta(gt=0)] = 2.0
    """Softens both outputs where they are classes; elsewhere the distance is the mean squared error."""


class LossWeights(_Section, frozen=True):
    """How much a seed's own objective counts, by its stage; the network with all seeds counts 1."""

    training: Weight = 1.0
    """Of its shadow passes. Adam cancels a weight that all gradients of a seed have."""
    blending: Weight = 0.5
    """In the host's projected gradient, while the seed is mixed in by degrees."""
    shadowing: Weight = 1.0
    """Of its shadow passes, as in training."""
    probationary: Weight = 1.0
    """In the host's projected gradient."""


class SurgeryConfig(_Section, frozen=True):
    """When live seeds are compared, and from when on their conflict hurts."""

    every: Positive = 10
    """Steps from one comparison to the next, while nothing is projected."""
    share: Share = 0.25
    """Share of an epoch's compared steps in which gradients conflict, from which on the next one projects."""
    excess: Annotated[float, Meta(ge=-1)] = 0.0
    """Loss with all seeds over that with the best one alone, minus 1, which has to be reached as well."""
    slack: Amount = 0.1
    """How far one of the two has to fall below its threshold until projection ends."""


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
    max_active_params: Positive | None = None
    """Parameters that these seeds may have together; as many as `max_params` allows if not given."""
    max_active_mb: Positive | None = None
    """Memory that they may take, with optimizer state and the copies to go back to; no limit if not given."""
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
    blueprints: tuple[str, ...] = ()
    """Modules with blueprints of your own, which are imported: files ending in .py, or names."""
    conflict: Literal["off", "measure", "project"] = "project"
    """Of several live seeds: compare what each wants of the host; project it where their conflict hurts."""
    pause_epochs_max: Positive = 50
    """Epochs that a seed may be paused in its life; when they are spent it resumes by itself."""
    issuers: Annotated[tuple[str, ...], Meta(min_length=1)] = ("tamiyo/*", "tolaria", "operator", "drill")
    """Who may send commands to the grafting engine; `*` stands for anything."""
    path: Path = Path()
    gates: GateConfig = GateConfig()
    guard: GuardConfig = GuardConfig()
    distill: DistillConfig = DistillConfig()
    loss_weights: LossWeights = LossWeights()
    surgery: SurgeryConfig = SurgeryConfig()


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
    objects: str = ""
    """Where the store's kernels lie, as an fsspec address; empty is in its folder, with its catalogue."""
    strategy: Literal["fast", "standard", "aggressive"] = "standard"
    """Export only; compare outputs and gradients too; or also compile natively where that pays."""
    workers: Annotated[int, Meta(ge=1, le=2)] = 2
    """Compiler processes at once; one less than there are processors, if that is fewer."""
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


class EmergencyConfig(_Section, frozen=True):
    """What counts as an emergency, and how long it lasts."""

    loss_ratio_max: Annotated[float, Meta(gt=1)] = 15.0
    """A training loss above this many times its recent level is an emergency: that step is not taken. In the
    first epoch it takes three, one after the other."""
    rollbacks_max: Count = 3
    """Rollbacks within `rollback_window`; what would need one more ends the run."""
    rollback_window: Positive = 20
    """Epochs over which rollbacks are counted."""
    calm_epochs: Annotated[int, Meta(ge=2)] = 3
    """Quiet boundaries after which the emergency level falls by one."""
    slow_boundaries: Positive = 3
    """Boundaries running over their budget, the copy of the run not counted, that are told; at four times as
    many growth is conservative."""
    memory_mb: Positive | None = None
    """Resident memory the process may have; if not given, 90 % of the machine's or its control group's."""
    memory_hard_ratio: Annotated[float, Meta(gt=1)] = 1.08
    """Share of `memory_mb` above which the run is halted, before the system ends it."""
    disk_free_mb: Count = 200
    """Space on the run folder's disk below which it counts as full; 0 does not look."""
    loop_stall_s: Annotated[float, Meta(gt=0.2, le=60)] = 0.75
    """Seconds without a sign of life from the event loop after which all threads' stacks are dumped."""
    step_stall_s: Annotated[float, Meta(ge=1)] = 60.0
    """The same for the training thread: a step, a validation batch or a fork that takes longer hangs."""
    hang_s: Annotated[float, Meta(ge=0)] = 600.0
    """Seconds without a sign of life, after which the process is ended from outside; 0 never ends it."""


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


class CheckpointConfig(_Section, frozen=True):
    """What a run keeps of itself, to go back to and to go on from."""

    every_epochs: Count = 1
    """Boundaries from one checkpoint on disk to the next; 0 writes none."""
    every_s: Amount = 2.0
    """Seconds that lie between two of them at least; what was due meanwhile is not written."""
    keep: Positive = 3
    """Checkpoints that stay on disk, the newest."""
    boundaries: Count = 5
    """Boundaries kept in memory for a fast rollback; the newest always is, unless `every_epochs` is 0 too."""
    memory_mb: Positive = 2048
    """What those may take; the oldest go first, the newest stays."""


class Config(_Section, frozen=True):
    """The whole configuration."""

    run: RunConfig = RunConfig()
    train: TrainConfig = TrainConfig()
    growth: GrowthConfig = GrowthConfig()
    tamiyo: TamiyoConfig = TamiyoConfig()
    kernels: KernelConfig = KernelConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    budgets: BudgetConfig = BudgetConfig()
    emergency: EmergencyConfig = EmergencyConfig()
    serve: ServeConfig = ServeConfig()
