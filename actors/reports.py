"""Keeps every command under observation, whoever issued it, and publishes its field report.

Apart from Tamiyo, so that a policy that hangs or crashes takes no report with it.
"""

from actors.oona.bus import Bus
from actors.oona.telling import tell
from actors.runtime import Actor, handles
from actors.runtime.clock import Clock
from contracts import topics
from contracts.control import CloseWindows, Decided
from contracts.messages import FieldReport
from esper.tamiyo.observation import Observation


class Reports(Actor[Decided | CloseWindows]):
    """The shell around the observation windows, which outlive a restart of the shell."""

    critical = False

    def __init__(self, observation: Observation, clock: Clock, bus: Bus) -> None:
        self._observation = observation
        self._clock = clock
        self._bus = bus

    @handles
    async def on_decided(self, message: Decided) -> None:
        self._publish(self._observation.watch(message, self._clock.wall_ns()))

    @handles
    async def on_close_windows(self, message: CloseWindows) -> tuple[FieldReport, ...]:
        reports = self._observation.close(message.state, message.view, self._clock.wall_ns())
        self._publish(reports)
        return reports

    def _publish(self, reports: tuple[FieldReport, ...]) -> None:
        for report in reports:
            tell(self._bus, topics.FIELD_REPORT, report, report.report_id)
