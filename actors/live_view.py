"""The run as it is now: for the display, for its signs of life, and for whoever compares it."""

from bisect import insort
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from actors.oona.bus import Bus
from contracts.growth import GrowthView
from contracts.registry import ControlFacts, Pulse
from contracts.report import AlertFacts, EpochFacts
from contracts.view import BoundaryView, KernelProgress, Phase, ProbeProgress, RunFacts, RunView
from esper.moment import WitnessMemory
from esper.report.record import Recorder

VIEW_EPOCHS = 400
"""Newest epochs that the display gets."""
ALERTS_SHOWN = 3


class LiveView:
    """What is shown of one run; lives on the event loop, and its lane replaces single values."""

    def __init__(self, facts: RunFacts, recorder: Recorder, bus: Bus, now: Callable[[], float]) -> None:
        self.phase: Phase = "starting"
        self.epoch = 0
        """The newest that has ended."""
        self.growth: GrowthView | None = None
        """How growth stood then."""
        self.emergency = ""
        """The emergency level, in small letters; empty while all is well."""
        self.probe: ProbeProgress | None = None
        """The probe that is running."""
        self.kernels: KernelProgress | None = None
        self.making: tuple[str, ...] = ()
        """Blueprints whose kernels are being made, by name."""
        self._facts = facts
        self._recorder = recorder
        self._bus = bus
        self._now = now
        self._began_s = now()
        self._worked_s = 0.0
        """Seconds that the run had taken when this process took it up."""
        self._boundaries_ms: list[float] = []
        """In ascending order."""
        self._pulses = 0
        self._control: RunView | None = None

    @property
    def worked_s(self) -> float:
        """Seconds that the run has taken so far, in all its processes."""
        return self._worked_s + self._now() - self._began_s

    @property
    def boundaries(self) -> BoundaryView | None:
        """Median and 99th percentile (nearest rank) of the boundaries so far."""
        return _boundary_view(self._boundaries_ms)

    def boundary(self, took_s: float) -> None:
        """A boundary is over."""
        insort(self._boundaries_ms, took_s * 1e3)

    def probing(self, done: int, total: int) -> None:
        """How far a probe is; called from the lane, replaces one value."""
        self.probe = ProbeProgress(done=done, total=total, candidates=total - done)

    def resumed(self, memory: WitnessMemory, epoch: int) -> None:
        """This process goes on with a run at the end of `epoch`."""
        self.epoch, self._worked_s = epoch, memory.worked_s
        self._boundaries_ms = sorted(
            one.boundary_ms.total for one in memory.recorded.epochs if one.boundary_ms is not None
        )

    def compare(self, params: int, budget_flops: int) -> None:
        """From now on the ungrown host is shown, which is trained for comparison."""
        self.phase = "comparing"
        self._control = replace(
            self.view(), epochs=(), sites=(), spent_flops=0, epoch=0, params=params, probe=None
        )
        self._facts = replace(self._facts, epochs=None, budget_flops=budget_flops)
        self._worked_s, self._began_s = self.worked_s, self._now()

    def compared_epoch(self, facts: EpochFacts) -> None:
        """An epoch of the ungrown host is over; called from the lane, replaces one value."""
        if self._control is not None:
            self._control = replace(
                self._control,
                facts=self._facts,
                elapsed_s=self._now() - self._began_s,
                epochs=(*self._control.epochs[-VIEW_EPOCHS:], facts),
                epoch=facts.epoch,
                spent_flops=facts.train_flops,
            )

    def view(self) -> RunView:
        """The run as it is now, or the comparison once that has begun."""
        if self._control is not None:
            return self._control
        recorded, growth = self._recorder.recorded, self.growth
        view = RunView(
            facts=self._facts,
            phase="probing" if self.probe is not None else self.phase,
            epoch=self.epoch,
            elapsed_s=self._now() - self._began_s,
            epochs=tuple(recorded.epochs[-VIEW_EPOCHS:]),
            boundary=self.boundaries,
            probe=self.probe,
            kernels=replace(self.kernels, making=self.making) if self.kernels is not None else None,
            bus_depth=self._bus.metrics().depth,
            alerts=tuple(alert.text for alert in recorded.alerts[-ALERTS_SHOWN:] if _shown(alert)),
            emergency=self.emergency,
        )
        if growth is not None:
            return _grown(view, growth)
        if recorded.epochs:
            last = recorded.epochs[-1]
            return replace(view, params=last.params, spent_flops=last.train_flops)
        return view

    def pulse(self) -> Pulse:
        """A sign of life, a new one each time."""
        self._pulses += 1
        view, control = self.view(), None
        if self._control is not None:
            newest = view.epochs[-1] if view.epochs else None
            control = ControlFacts(view.params, self._facts.budget_flops or 0, newest)
        return Pulse(
            self._pulses, view.phase, view.elapsed_s, view.bus_depth, view.probe, control, self.epoch
        )


def _grown(view: RunView, growth: GrowthView) -> RunView:
    """With what growth has made of the network."""
    return replace(
        view,
        epoch=growth.epoch,
        host_params=growth.host_params,
        params=growth.params,
        max_params=growth.max_params,
        spent_flops=growth.spent_flops,
        sites=growth.sites,
        conservative=growth.conservative,
    )


def _boundary_view(ordered: Sequence[float]) -> BoundaryView | None:
    if not ordered:
        return None
    return BoundaryView(
        p50_ms=ordered[len(ordered) // 2], p99_ms=ordered[-(-99 * len(ordered) // 100) - 1], n=len(ordered)
    )


def _shown(alert: AlertFacts) -> bool:
    return alert.severity != "info" and alert.cleared_epoch is None
