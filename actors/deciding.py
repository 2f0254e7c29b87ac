"""Asks at a boundary what shall be done, and gives up in time: whatever the others do, a boundary ends.

A controller that is late, dead or talks nonsense costs at most its deadline, and "do nothing" is its answer.
While an answer is overdue the controller is not asked again: such boundaries do nothing at once.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec

from actors.kasmina import Adapt, Commit
from actors.runtime import ActorError, ActorRef, AskTimeout, sent
from contracts.config import BudgetConfig
from contracts.control import Evaluate, Ready, Survey
from contracts.growth import ProbePlan
from contracts.messages import AdaptationCommand, CommandType, WallNs
from esper.kasmina.plan import Verdict
from esper.tolaria.results import Assembled

GUARD_MS = 1
"""Part of the boundary's budget that is kept for applying the plan."""
SURVEY_DEADLINE_S = 1.0
"""For what is asked while training runs."""
OVERDUE_S = 60.0
"""How long an overdue answer is waited for before the controller is asked again all the same."""
STILL_BUSY = "the controller is still busy with an earlier question"


@dataclass(frozen=True, slots=True)
class Counsel:
    """Whom a boundary asks, and what it may take."""

    tamiyo: ActorRef[Evaluate | Survey | Ready]
    kasmina: ActorRef[Adapt | Commit]
    budgets: BudgetConfig
    run_id: str
    now: Callable[[], float]
    wall_ns: Callable[[], WallNs]
    event_id: Callable[[str], str] = str
    """A name that comes once an epoch, told apart from what it was before a rollback."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The controller's command, or "do nothing" and why."""

    command: AdaptationCommand
    fallback: str = ""
    overdue: bool = False
    """The answer did not come in time, and may still come."""


async def decide(counsel: Counsel, assembled: Assembled) -> Decision:
    """What the controller wants done now."""
    request = Evaluate(assembled.state, assembled.growth)
    deadline_s = counsel.budgets.tamiyo_inference_ms / 1e3
    try:
        answer = await counsel.tamiyo.ask(request, deadline_s=deadline_s)
    except AskTimeout:
        late = f"it took longer than the {counsel.budgets.tamiyo_inference_ms} ms that it may take"
        return do_nothing(counsel, assembled, f"{late}; nothing changes at this boundary", overdue=True)
    except ActorError as error:
        return do_nothing(counsel, assembled, str(error))
    nonsense = nonsense_in(answer, AdaptationCommand)
    return do_nothing(counsel, assembled, nonsense) if nonsense else Decision(answer)


async def adapt(
    counsel: Counsel, command: AdaptationCommand, assembled: Assembled, epoch_ended: float
) -> tuple[Verdict | None, str]:
    """The engine's verdict, or None and why there is none."""
    growth, budgets = assembled.growth, counsel.budgets
    request = Adapt(
        command,
        assembled.figures,
        growth.epoch,
        counsel.wall_ns(),
        growth.params,
        conservative=growth.conservative,
        resting=growth.resting,
    )
    left_s = (budgets.epoch_boundary_ms - GUARD_MS) / 1e3 - (counsel.now() - epoch_ended)
    deadline_s = max(left_s, budgets.adaptation_processing_ms / 1e3)
    try:
        return await counsel.kasmina.ask(request, deadline_s=deadline_s), ""
    except ActorError as error:
        return None, str(error)


def ask_survey(counsel: Counsel, assembled: Assembled) -> Awaitable[ProbePlan | None]:
    """Ask now what is to be measured before one of the next turns; what comes is for `surveyed`."""
    request = Survey(assembled.state, assembled.growth)
    return sent(lambda: counsel.tamiyo.ask(request, deadline_s=SURVEY_DEADLINE_S))


async def surveyed(answer: Awaitable[ProbePlan | None]) -> tuple[ProbePlan | None, str]:
    """What is to be measured, and what was wrong with the answer."""
    try:
        plan = await answer
    except ActorError:
        return None, ""  # the controller goes without evidence; that it is ill shows at the next boundary
    nonsense = nonsense_in(plan, ProbePlan) if plan is not None else ""
    return (None, nonsense) if nonsense else (plan, "")


def do_nothing(counsel: Counsel, assembled: Assembled, reason: str, *, overdue: bool = False) -> Decision:
    """The answer of a controller that has none, and why."""
    command = AdaptationCommand(
        counsel.event_id(f"{counsel.run_id}-fallback-{assembled.growth.epoch}"),
        CommandType.PAUSE,
        counsel.wall_ns(),
        "tolaria",
        annotations={"action": "wait", "reason": reason},
    )
    return Decision(command, reason, overdue)


def nonsense_in(answer: object, due: type) -> str:
    """What is wrong with a controller's answer: a policy of someone else's may break its type's promise."""
    if not isinstance(answer, due):
        return f"the controller answered {type(answer).__name__} where {due.__name__} was due"
    try:
        msgspec.convert(msgspec.to_builtins(answer), due)
    except (msgspec.ValidationError, TypeError) as error:
        return f"the controller's {due.__name__} makes no sense: {error}"
    return ""
