"""Every instrument there is: name, unit, labels, one sentence, and the plain numbers that it reads.

Durations are in seconds, a share is named `ratio`, and label values come from small fixed sets,
never an epoch or a run id. What the `messaging.*` conventions have a name for has that name.
"""

from collections.abc import Iterable

from actors.nissa.reading import (
    TOPIC,
    Distribution,
    Kind,
    Number,
    Reading,
    Sample,
    Spread,
    actors,
    groups,
    lanes,
    latencies,
    link,
    operation,
    refused_frames,
    spread,
    table,
    topics,
    value,
)

_COUNTER, _GAUGE = Kind.COUNTER, Kind.GAUGE
_LANE = (TOPIC, "lane")
_OPERATION = (*_LANE, *operation(""))


def _parameters(reading: Reading) -> Iterable[Sample]:
    training = reading.run.training
    return (({"origin": "host"}, training.host_params), ({"origin": "grown"}, training.grown_params))


def _verdicts(reading: Reading) -> Iterable[Sample]:
    growth = reading.run.growth
    verdicts = (("passed", growth.gates_passed), ("failed", growth.gates_failed))
    return [
        ({"gate": gate.name.lower(), "verdict": word}, count)
        for word, counts in verdicts
        for gate, count in counts.items()
    ]


def _parts(reading: Reading) -> Iterable[Distribution]:
    return [
        *spread(lambda run: run.boundary.keep, part="keep")(reading),
        *spread(lambda run: run.boundary.assemble, part="assemble")(reading),
        *spread(lambda run: run.boundary.decide, part="decide")(reading),
        *spread(lambda run: run.boundary.apply, part="apply")(reading),
    ]


# fmt: off
SPREADS: tuple[Spread, ...] = (
    Spread("esper.boundary.duration", (),
           "Pause between two epochs, validation not counted.",
           spread(lambda run: run.boundary.duration)),
    Spread("esper.boundary.part.duration", ("part",),
           "Time that copying the run, assembling the state, deciding and applying take in a boundary.",
           _parts),
    Spread("esper.probe.duration", (),
           "Time that one probe of candidates took.",
           spread(lambda run: run.growth.probes)),
    Spread("esper.loop.lag", (),
           "How late the event loop wakes, its timer's own millisecond included.",
           spread(lambda run: run.loop_lag)),
    Spread("esper.render.duration", (),
           "Work that one rendering of these metrics took, pauses not counted.",
           spread(lambda run: run.render)),
    Spread("esper.bus.delivery.latency", ("lane",),
           "Time from a message's publication to its first delivery.",
           latencies),
)

NUMBERS: tuple[Number, ...] = (
    Number(_GAUGE, "esper.boundary.budget", "s", (),
           "Longest a boundary may take.",
           value(lambda run: run.boundary.budget_s)),
    Number(_COUNTER, "esper.boundary.over_budget", "{boundary}", (),
           "Boundaries that took longer than the budget.",
           value(lambda run: run.boundary.over_budget)),
    Number(_COUNTER, "esper.decision.timeouts", "{decision}", (),
           "Boundaries that did nothing for want of a usable decision.",
           value(lambda run: run.boundary.decision_timeouts)),
    Number(_COUNTER, "esper.training.epochs", "{epoch}", (),
           "Epochs trained.",
           value(lambda run: run.training.epochs)),
    Number(_COUNTER, "esper.training.steps", "{step}", (),
           "Optimizer steps taken.",
           value(lambda run: run.training.steps)),
    Number(_GAUGE, "esper.training.loss", "1", (),
           "Mean training loss of the last epoch.",
           value(lambda run: run.training.loss)),
    Number(_GAUGE, "esper.training.learning_rate", "1", (),
           "Learning rate of the host's parameters.",
           value(lambda run: run.training.learning_rate)),
    Number(_COUNTER, "esper.training.flops", "{flop}", ("account",),
           "Training FLOPs spent, by what they were spent on.",
           table("account", lambda run: run.training.flops)),
    Number(_GAUGE, "esper.validation.loss", "1", (),
           "Validation loss after the last epoch.",
           value(lambda run: run.training.validation_loss)),
    Number(_GAUGE, "esper.validation.accuracy.ratio", "1", (),
           "Validation accuracy after the last epoch, 0 to 1.",
           value(lambda run: run.training.validation_accuracy)),
    Number(_GAUGE, "esper.model.parameters", "{parameter}", ("origin",),
           "Parameters of the network, the host's own and those grown.",
           _parameters),
    Number(_GAUGE, "esper.seeds", "{seed}", ("stage",),
           "Seeds now in each stage of the lifecycle.",
           table("stage", lambda run: run.growth.seeds)),
    Number(_COUNTER, "esper.grafts", "{graft}", ("outcome",),
           "Grafts that came to an end, by how.",
           table("outcome", lambda run: run.growth.grafts)),
    Number(_COUNTER, "esper.gate.verdicts", "{verdict}", ("gate", "verdict"),
           "Decisions of the gates.",
           _verdicts),
    Number(_COUNTER, "esper.commands", "{command}", ("answer",),
           "Commands applied and refused.",
           table("answer", lambda run: run.growth.commands)),
    Number(_COUNTER, "esper.field_reports", "{report}", ("outcome",),
           "Field reports written, by outcome of the adaptation.",
           table("outcome", lambda run: run.growth.field_reports)),
    Number(_GAUGE, "esper.growth.conservative", "1", (),
           "1 while growth is in conservative mode, else 0.",
           value(lambda run: run.growth.conservative)),
    Number(_GAUGE, "esper.emergency.level", "1", (),
           "Emergency level: 0 none, 1 notice, 2 elevated, 3 conservative, 4 halt.",
           value(lambda run: run.growth.emergency)),
    Number(_COUNTER, "esper.telemetry.dropped", "{record}", (),
           "Telemetry records thrown away because their queue was full.",
           value(lambda run: run.telemetry_dropped)),
    Number(_GAUGE, "esper.actor.mailbox.depth", "{message}", ("actor",),
           "Messages waiting for an actor.",
           lanes(lambda lane: lane.depth)),
    Number(_COUNTER, "esper.actor.handled", "{message}", ("actor",),
           "Messages that an actor has handled.",
           actors(lambda actor: actor.handled)),
    Number(_COUNTER, "esper.actor.dropped", "{message}", ("actor",),
           "Messages that an actor's full mailbox let go.",
           lanes(lambda lane: lane.dropped)),
    Number(_COUNTER, "esper.actor.restarts", "{restart}", ("actor",),
           "Restarts of an actor after an error.",
           actors(lambda actor: actor.restarts)),
    Number(_COUNTER, "messaging.client.sent.messages", "{message}", _OPERATION,
           "Messages published to the bus, refused ones included.",
           topics(lambda topic: topic.published, operation("publish"))),
    Number(_COUNTER, "esper.bus.refused", "{message}", _LANE,
           "Messages refused for want of room.",
           topics(lambda topic: topic.refused)),
    Number(_COUNTER, "esper.bus.shed", "{message}", _LANE,
           "Messages turned away by conservative mode.",
           topics(lambda topic: topic.shed)),
    Number(_COUNTER, "esper.bus.rerouted", "{message}", _LANE,
           "Messages that took the urgent lane for want of room.",
           topics(lambda topic: topic.rerouted)),
    Number(_COUNTER, "messaging.client.consumed.messages", "{message}", _OPERATION,
           "Messages delivered by the bus, repeats included.",
           groups(lambda group: group.delivered, operation("receive"))),
    Number(_COUNTER, "esper.bus.redelivered", "{message}", _LANE,
           "Deliveries that were repeats.",
           groups(lambda group: group.redelivered)),
    Number(_COUNTER, "esper.bus.acked", "{message}", _LANE,
           "Messages acknowledged.",
           groups(lambda group: group.acked)),
    Number(_GAUGE, "esper.bus.dead_lettered", "{message}", _LANE,
           "Messages given up; a replay takes them out again.",
           groups(lambda group: group.dead_lettered)),
    Number(_COUNTER, "esper.bus.dropped", "{message}", _LANE,
           "Messages that made room for newer ones.",
           groups(lambda group: group.dropped)),
    Number(_COUNTER, "esper.bus.expired", "{message}", _LANE,
           "Messages that outlived their time to live.",
           groups(lambda group: group.expired)),
    Number(_GAUGE, "esper.bus.depth", "{message}", _LANE,
           "Messages not yet settled.",
           groups(lambda group: group.pending)),
    Number(_GAUGE, "esper.bus.conservative", "1", (),
           "1 while the bus takes only urgent messages, else 0.",
           lambda reading: (({}, reading.bus.conservative),) if reading.bus else ()),
    Number(_GAUGE, "esper.bus.connected", "1", (),
           "1 while the server that carries the bus can be reached, else 0; only on Redis, as the next five.",
           link(lambda row: row.connected)),
    Number(_COUNTER, "esper.bus.reconnects", "{connection}", (),
           "Times the connection to the server was made anew.",
           link(lambda row: row.reconnects)),
    Number(_GAUGE, "esper.bus.outbox", "{message}", (),
           "Messages that the server has not taken yet.",
           link(lambda row: row.outbox)),
    Number(_COUNTER, "esper.bus.outbox.lost", "{message}", (),
           "Messages that the outbox let go, or the server turned away, after their publisher had gone on.",
           link(lambda row: row.outbox_lost)),
    Number(_GAUGE, "esper.bus.retained", "{message}", (),
           "Messages kept, to be given to a server that loses its data, until all groups have settled them.",
           link(lambda row: row.retained)),
    Number(_COUNTER, "esper.bus.frames.refused", "{frame}", ("reason",),
           "Frames from outside that were not believed or could not be read.",
           refused_frames),
)
# fmt: on


def exported_name(instrument: Number | Spread) -> str:
    """The name under which Prometheus knows an instrument, without a histogram's `_bucket` and the like."""
    name = instrument.name.replace(".", "_")
    if isinstance(instrument, Spread):
        return f"{name}_seconds"
    unit = "_seconds" if instrument.unit == "s" else ""
    return f"{name}{unit}_total" if instrument.kind is Kind.COUNTER else f"{name}{unit}"


def metrics_table() -> str:
    """The README's table of metrics, in Markdown."""
    rows = [("metric", "type", "unit", "labels", "meaning"), ("---",) * 5]
    rows += [_row(each, "histogram", "s") for each in SPREADS]
    rows += [_row(each, each.kind.value, each.unit.strip("{}")) for each in NUMBERS]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def _row(instrument: Number | Spread, kind: str, unit: str) -> tuple[str, str, str, str, str]:
    labels = ", ".join(f"`{label.replace('.', '_')}`" for label in instrument.labels)
    return f"`{exported_name(instrument)}`", kind, unit, labels, instrument.meaning
