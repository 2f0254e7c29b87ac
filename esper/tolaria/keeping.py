"""Copies a run, and brings it back: first it is seen whether that can be done, then it is done.

    mend      parameters that somebody has put into the host are taken out
    look      every part says whether it could go on from what was kept; nothing has changed if one could not
    regrow    the network has the same seeds again, in the same order
    write     tensors, optimizer, streams, books: plain copies

What can still fail after the look (no memory left, a module's own `set_extra_state`) leaves a run that is
neither the one nor the other, and says so; to go back to any snapshot mends it.
"""

from dataclasses import replace

from esper.tolaria.copies import packing
from esper.tolaria.errors import BadOptimizer, RestoreFailed
from esper.tolaria.flops import Account
from esper.tolaria.groups import flaw_of_optimizer, put_optimizer, put_settings, take_optimizer
from esper.tolaria.machine import Machine
from esper.tolaria.network import flaw_of_network, inventory_of, modules_of, put_network, regrow, take_network
from esper.tolaria.snapshot import Position, Snapshot
from esper.tolaria.streams import flaw_of_stream, flaw_of_streams, put_streams, take_streams
from esper.tolaria.trial import WRONG


def keep(machine: Machine, at: Position, restored: Snapshot | None = None) -> Snapshot:
    """Copy the run as it is, into what is spare; `at` says what the machine does not know.

    What was `restored`, with nothing done since, has network and optimizer already: two snapshots may share
    them, since none ever changes.
    """
    parts, point = machine.parts, machine.safe_point
    position = replace(
        at,
        grad_norm=machine.loop.grad_norm,
        shape=point.shape,
        version=point.version,
        counts=machine.costs.state(),
    )
    if restored is not None:
        network, optimizer = restored.network, restored.optimizer
    else:
        inventory = inventory_of(parts.grafts.model)
        with machine.spare.copying() as copy_of, packing(copy_of) as copies_of:
            network = take_network(parts.grafts, inventory, copies_of)
            optimizer = take_optimizer(parts.optimizer, inventory.parameters, copies_of)
    return Snapshot(
        network=network,
        modules=modules_of(parts.grafts),
        optimizer=optimizer,
        rates=parts.rates.state(),
        loader=parts.loader.state(),
        seeds=parts.growth.copies(point.shape),
        accounts=parts.ledger.accounts(),
        isolation=machine.isolation.state(),
        stream=parts.stream.state,
        global_streams=take_streams(),
        teacher=machine.distillation.state(),
        position=position,
    )


def restore(machine: Machine, snapshot: Snapshot, *, behind_break: bool) -> None:
    """Bring the machine back to where the snapshot was taken; the position is for the trainer to take over.

    FLOPs that have been spent since stay spent. With `behind_break` the data go on where they are.

    Raises:
        RestoreFailed: nothing has changed, or the machine is not consistent; it says which.
    """
    registry = machine.parts.grafts.registry
    if registry.foreign():
        registry.mend()  # what somebody put into the host since is in nobody's way
    flaw = flaw_of(machine, snapshot)
    if flaw:
        raise RestoreFailed(flaw, consistent=True)
    try:
        machine.parts.rates.restore(snapshot.rates)  # it refuses the state of another schedule as a whole
    except BadOptimizer as error:
        raise RestoreFailed(str(error), consistent=True) from error
    try:
        _put(machine, snapshot)
    except (*WRONG, MemoryError) as error:
        raise RestoreFailed(f"{type(error).__name__}: {error}", consistent=False) from error
    if not behind_break:
        machine.parts.loader.restore(snapshot.loader)


def flaw_of(machine: Machine, snapshot: Snapshot) -> str:
    """Why the machine could not be brought back to it; empty if it could. Nothing of the run changes."""
    parts = machine.parts
    in_place = {seed_id for seed_id, seed in snapshot.seeds.items() if seed.in_place}
    if {seed.seed_id for seed in snapshot.network.seeds} != in_place:
        return "what has grown and what is in place are not the same seeds"
    unknown = {seed.record.site for seed in snapshot.seeds.values()} - parts.growth.sites.keys()
    if unknown:
        return f"there is no site {', '.join(sorted(unknown))}"
    if snapshot.accounts.keys() != {account.value for account in Account}:
        return f"the accounts are {', '.join(snapshot.accounts)}"
    return (
        flaw_of_network(parts.grafts, snapshot.network, snapshot.modules)
        or flaw_of_optimizer(parts.optimizer, snapshot.optimizer, snapshot.network.tensors.keys())
        or parts.loader.flaw(snapshot.loader)
        or flaw_of_stream(snapshot.stream)
        or flaw_of_streams(snapshot.global_streams)
    )


def _put(machine: Machine, snapshot: Snapshot) -> None:
    parts, position, point = machine.parts, snapshot.position, machine.safe_point
    model = parts.grafts.model
    before = tuple(model.parameters())
    regrow(parts.grafts, snapshot.network.seeds, snapshot.modules)
    put_network(parts.grafts, snapshot.network)
    put_optimizer(parts.optimizer, snapshot.optimizer, dict(model.named_parameters()), before)
    parts.growth.restore(snapshot.seeds)
    parts.rates.restore(snapshot.rates)  # of the groups that there are now
    put_settings(parts.optimizer, snapshot.optimizer)  # what somebody had changed is found at the next step
    spent = parts.ledger.accounts()
    parts.ledger.restore({name: max(flops, spent[name]) for name, flops in snapshot.accounts.items()})
    parts.stream.state = snapshot.stream
    machine.isolation.restore(snapshot.isolation)
    machine.conflicts.restore(position.last.conflict if position.last is not None else None)
    machine.distillation.restore(snapshot.teacher)
    machine.costs.restore(position.counts)
    machine.loop.grad_norm = position.grad_norm
    point.shape, point.version = position.shape, position.version
    put_streams(snapshot.global_streams)
