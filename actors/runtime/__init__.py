"""The actor runtime: mailboxes, supervision, clocks, and the system that runs them.

     sender ── tell, ask ──▶ ActorRef ──▶ Mailbox ──────────────▶ Runner ──▶ Actor
                               │          urgent │ normal         one message   @handles, one
                               ▼          bounded, with a policy  at a time, a  method a type
                              Desk        for a full lane         slice at most
                     asks in flight,                                │ fails
                     one deadline sweeper                           ▼
                                                                Supervisor: pause and restart,
     ActorSystem: starts whoever is asked before whoever        or escalate; the message that
     asks, stops in reverse, snapshot()                         failed becomes a dead letter

Time, randomness and threads are passed in. `SimulatedLoop` runs a whole system in virtual time, the
same way every time from one seed; `governed_loop` keeps a real one from starving a training thread.
"""

from actors.runtime.actor import Actor, ActorContext, Overflow, handles
from actors.runtime.clock import Clock, LoopClock
from actors.runtime.dead_letters import DeadLetter, DeadLetters
from actors.runtime.errors import (
    ActorError,
    ActorRestarting,
    ActorStopped,
    AskCycle,
    AskFailed,
    AskTimeout,
    MailboxFull,
    StartFailed,
    StrayCancellation,
    UndeclaredAsk,
    UnknownActor,
    UnknownMessage,
)
from actors.runtime.governor import Governor, governed_loop
from actors.runtime.ref import ActorRef, sent
from actors.runtime.signals import StopSignals
from actors.runtime.simulation import SimulatedLoop, Stuck, run_simulated
from actors.runtime.snapshot import ActorSnapshot, ActorState, LaneSnapshot, SystemSnapshot
from actors.runtime.supervisor import Escalated, RestartPolicy
from actors.runtime.system import ActorSystem
from actors.runtime.threads import InlineThreads, Threads, WorkerThreads
from actors.runtime.timers import Timer

__all__ = [
    "Actor",
    "ActorContext",
    "ActorError",
    "ActorRef",
    "ActorRestarting",
    "ActorSnapshot",
    "ActorState",
    "ActorStopped",
    "ActorSystem",
    "AskCycle",
    "AskFailed",
    "AskTimeout",
    "Clock",
    "DeadLetter",
    "DeadLetters",
    "Escalated",
    "Governor",
    "InlineThreads",
    "LaneSnapshot",
    "LoopClock",
    "MailboxFull",
    "Overflow",
    "RestartPolicy",
    "SimulatedLoop",
    "StartFailed",
    "StopSignals",
    "StrayCancellation",
    "Stuck",
    "SystemSnapshot",
    "Threads",
    "Timer",
    "UndeclaredAsk",
    "UnknownActor",
    "UnknownMessage",
    "WorkerThreads",
    "governed_loop",
    "handles",
    "run_simulated",
    "sent",
]
