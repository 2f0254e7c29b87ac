"""A teacher: the network as it was before it ran with a seed, to which live seeds' training may hold.

The task's loss plus `weight` times the distance of the grown network's outputs to the teacher's. For classes
that is T²·KL(teacher ‖ network) of both outputs softened by the temperature T (Hinton, Vinyals and Dean 2015,
"Distilling the Knowledge in a Neural Network", section 2: the gradients of soft targets shrink with 1/T²);
for any other target of the outputs' shape it is the mean squared error.

Nothing trains a teacher: its tensors take no gradient, and no optimizer knows them. One to which somebody
has written all the same is let go before the next epoch: the tensors' version counters show it, and a sum of
their bits shows what went past those (inference tensors would not help: torch writes first, and raises
then). It runs in eval mode and draws from no stream of the run's.
"""

import copy
import logging
from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from contracts.config import DistillConfig
from esper.kasmina.aside import evaluating
from esper.kasmina.graft import Grafts
from esper.kasmina.slot import CHILD, key_of
from esper.kasmina.stream import RandomStream
from esper.tolaria.errors import BadData
from esper.tolaria.flops import Account, Counting, FlopLedger
from esper.tolaria.growth import Growth
from esper.tolaria.task import LossFn, Task

log = logging.getLogger(__name__)

Distance: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(network's outputs, teacher's outputs) → how far they are from each other, a tensor of no dimension."""


class Teacher:
    """A frozen copy of the network with exactly the seeds `seed_ids`; it shares nothing with the original."""

    def __init__(self, grafts: Grafts, seed_ids: frozenset[str], seed: int) -> None:
        own = copy.deepcopy(grafts)
        for seed_id in set(own.seed_ids()) - seed_ids:
            own.remove(seed_id)
        self.seed_ids = seed_ids
        self._grafts = own
        self._seed = seed
        for parameter in own.model.parameters():
            parameter.requires_grad_(False)
            parameter.grad = None
        self._versions = self._marks()

    def outputs(self, inputs: Tensor) -> Tensor:
        """What it says to `inputs` (B, ...), without a graph: the same numbers each time that it is asked."""
        model = self._grafts.model
        stream = RandomStream(self._seed, "teacher")
        with stream.flowing(inputs.device), evaluating(model, inputs.device):
            outputs: Tensor = model(inputs)
        return outputs

    def tensors(self) -> dict[str, Tensor]:
        """Its parameters and buffers by their names in the network; nothing ever changes in them."""
        model = self._grafts.model
        return {**dict(model.named_parameters()), **dict(model.named_buffers())}

    @property
    def intact(self) -> bool:
        """Nobody has written to it."""
        return self._versions == self._marks()

    def take_over(self, tensors: Mapping[str, Tensor]) -> None:
        """Be the teacher that had these `tensors()`; what seeds it has is the same."""
        with torch.no_grad():
            for name, own in self.tensors().items():
                own.copy_(tensors[name])
        for seed_id in self._grafts.seed_ids():
            self._grafts.set_alpha(seed_id, alpha_of(seed_id, tensors))
        self._versions = self._marks()

    def _marks(self) -> list[tuple[int, int]]:
        return [(tensor._version, _sum_of_bits(tensor)) for tensor in self.tensors().values()]


def _sum_of_bits(tensor: Tensor) -> int:
    """Another for nearly every other content, whatever its numbers are."""
    bits = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    words = bits.numel() % 4 == 0 and bits.storage_offset() % 4 == 0
    return int((bits.view(torch.int32) if words else bits).sum(dtype=torch.int64))


def alpha_of(seed_id: str, tensors: Mapping[str, Tensor]) -> float:
    """How much the seed's output counts in the network of these tensors; KeyError if it is not in it."""
    ending = f".{CHILD}.seeds.{key_of(seed_id)}.alpha"
    name = next((name for name in tensors if f".{name}".endswith(ending)), ending)
    return float(tensors[name])


def distance_for(task: Task, config: DistillConfig) -> Distance:
    """The distance that fits the task's outputs and targets, found on two examples.

    Raises:
        BadData: there is none: the outputs are neither (B, classes) for whole-number targets (B,) nor of the
            targets' shape and a floating type.
    """
    example = task.train.first(2)
    with evaluating(task.model, example.inputs.device):
        outputs = task.model(example.inputs)
    targets, temperature = example.targets, config.temperature
    if outputs.dim() == 2 and targets.dim() == 1 and not targets.is_floating_point():
        return lambda student, teacher: soft_divergence(student, teacher, temperature)
    if targets.is_floating_point() and outputs.shape == targets.shape:
        return F.mse_loss
    raise BadData(
        f"growth.distill has no distance for outputs {tuple(outputs.shape)} with targets "
        f"{tuple(targets.shape)} of {targets.dtype}: they have to be (B, classes) with whole numbers (B,), "
        "or numbers of equal shape; set growth.distill.weight to 0"
    )


def soft_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T²·KL(softmax(teacher / T) ‖ softmax(student / T)), mean over the batch; both (B, classes) logits."""
    of_student = F.log_softmax(student / temperature, dim=-1)
    of_teacher = F.log_softmax(teacher / temperature, dim=-1)
    return F.kl_div(of_student, of_teacher, reduction="batchmean", log_target=True) * temperature**2


class Distillation:
    """Has a teacher while a live seed's fate is open, and adds its term to the training loss.

    An isolated seed has no teacher: the host trains as if it were not there. The teacher is as old as the
    first contact of the oldest seed that is live and undecided.
    """

    def __init__(
        self, task: Task, grafts: Grafts, growth: Growth, ledger: FlopLedger, config: DistillConfig, seed: int
    ) -> None:
        """
        Raises:
            BadData: it is configured, and can't be had for this task.
        """
        self._loss_fn: LossFn = task.loss_fn
        self._grafts = grafts
        self._growth = growth
        self._ledger = ledger
        self._config = config
        self._seed = seed
        self._distance = distance_for(task, config) if config.weight else None
        self._inputs: Tensor | None = None
        self._listening: RemovableHandle | None = None
        self._pass_flops: int | None = None
        self.teacher: Teacher | None = None
        self._kept: Mapping[str, Tensor] | None = None

    @property
    def loss_fn(self) -> LossFn:
        """What a training step minimises; the task's own if there is never a teacher."""
        return self._loss_fn if self._distance is None else self._loss

    @property
    def step_flops(self) -> int | None:
        """What a teacher adds to a step; None before the first of its passes was counted, 0 without one."""
        return 0 if self.teacher is None else self._pass_flops

    def follow(self) -> None:
        """Before an epoch's steps: take a teacher if one is due, and let go of one that is not."""
        if self._distance is None:
            return
        undecided = {seed.record.seed_id for seed in self._growth.open_seeds() if seed.live}
        if not undecided or not self._holds_good():
            self._have(None)
        if undecided and self.teacher is None:
            settled = frozenset(self._grafts.live_ids()) - undecided
            self._have(Teacher(self._grafts, settled, self._seed))

    def _holds_good(self) -> bool:
        """The teacher is what it was, and so is what it is made of."""
        teacher = self.teacher
        if teacher is not None and not teacher.intact:
            log.warning("somebody has written to the teacher: it is let go, and another one taken")
            return False
        return teacher is None or teacher.seed_ids <= set(self._grafts.seed_ids())

    def state(self) -> Mapping[str, Tensor] | None:
        """A copy of the teacher's tensors, made when it was taken; None if there is none."""
        return self._kept

    def restore(self, state: Mapping[str, Tensor] | None) -> None:
        """Go on with the teacher that had these tensors; the network is as it was then.

        One with a seed that is not in the network any more is let go.
        """
        self._have(None)
        if state is None or self._distance is None:
            return
        teacher = Teacher(self._grafts, frozenset(self._seeds_in(state)), self._seed)
        if teacher.tensors().keys() == state.keys():
            teacher.take_over(state)
            self._have(teacher)

    def let_go(self) -> None:
        """There is nothing left to teach; nothing of it stays on the network."""
        self._have(None)

    def _seeds_in(self, state: Mapping[str, Tensor]) -> list[str]:
        keys = {name.split(f"{CHILD}.seeds.")[1].split(".")[0] for name in state if f"{CHILD}.seeds." in name}
        return [seed_id for seed_id in self._grafts.seed_ids() if key_of(seed_id) in keys]

    def _have(self, teacher: Teacher | None) -> None:
        self.teacher, self._inputs, self._pass_flops = teacher, None, None
        named = {} if teacher is None else teacher.tensors()
        self._kept = {name: tensor.detach().clone() for name, tensor in named.items()} if teacher else None
        if self._listening is not None:
            self._listening.remove()
            self._listening = None
        if teacher is not None:
            self._listening = self._grafts.model.register_forward_pre_hook(self._hear)

    def _hear(self, model: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._inputs = inputs[0]

    def _loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        loss = self._loss_fn(outputs, targets)
        teacher, inputs, distance = self.teacher, self._inputs, self._distance
        self._inputs = None
        if teacher is None or inputs is None or distance is None:
            return loss
        return loss + self._config.weight * distance(outputs, self._asked(teacher, inputs))

    def _asked(self, teacher: Teacher, inputs: Tensor) -> Tensor:
        """The teacher's outputs, the pass booked."""
        if self._pass_flops is None:
            with Counting() as count:
                outputs = teacher.outputs(inputs)
            self._pass_flops = count.flops
        else:
            outputs = teacher.outputs(inputs)
        self._ledger.add(Account.SHADOW, self._pass_flops)
        return outputs
