"""The instruments as an OpenTelemetry meter, and the meter as Prometheus families.

OpenTelemetry has no observable histogram: its histograms want to be called with each figure, which
costs 7 to 14 µs, and can't be set. Its data model can hold what we counted ourselves, though: a
histogram data point is bounds, counts and a sum. So the reader puts our histograms into the batch
that the SDK hands it, beside what the observable instruments read, and the exporter names and
writes both alike. (A collector of our own beside the exporter would have to repeat its naming;
recording in batches later would cost what it saves.)
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric as Family

from actors.nissa.instruments import NUMBERS, SPREADS
from actors.nissa.reading import Distribution, Kind, Number, Reading, Spread

SCOPE = "esper"
CHAPTERS = 6
"""The SDK collects a whole meter provider in one go, so the instruments are dealt out over several,
each of which holds the interpreter for about 1 ms (all at once: 4)."""


class Page:
    """All instruments in the text format of Prometheus, a piece at a time.

    Nothing is registered globally; `close` gives up the meter providers.
    """

    def __init__(self, take: Callable[[], Reading]) -> None:
        self._take = take
        self.reading = take()
        """What is being rendered, or was last."""
        self._registry = CollectorRegistry(target_info={"service_name": SCOPE})
        self._providers = [
            self._chapter(NUMBERS[first::CHAPTERS], SPREADS[first::CHAPTERS]) for first in range(CHAPTERS)
        ]

    def render(self) -> Iterator[bytes]:
        """One scrape's text in pieces of one metric each; the caller may pause between two.

        What the bus and the actors counted is taken once, at the first piece; the run's own numbers
        are read as each chapter is reached.
        """
        self.reading = self._take()
        for family in self._registry.collect():
            yield generate_latest(_Alone(family))

    def close(self) -> None:
        for provider in self._providers:
            provider.shutdown()

    def _chapter(self, numbers: Sequence[Number], spreads: Sequence[Spread]) -> MeterProvider:
        reader = _Reader(self._registry, lambda: [_histogram(each, self.reading) for each in spreads])
        provider = MeterProvider((reader,), _RESOURCE, AlwaysOffExemplarFilter(), shutdown_on_exit=False)
        meter = provider.get_meter(SCOPE)
        for number in numbers:
            self._observe(meter, number)
        return provider

    def _observe(self, meter: Meter, number: Number) -> None:
        def read(_: CallbackOptions) -> Iterable[Observation]:
            samples = number.read(self.reading)
            return [Observation(value, labels) for labels, value in samples if math.isfinite(value)]

        if number.kind is Kind.COUNTER:
            meter.create_observable_counter(number.name, [read], number.unit, number.meaning)
        else:
            meter.create_observable_gauge(number.name, [read], number.unit, number.meaning)


class _Alone:
    """A registry that holds one family."""

    def __init__(self, family: Family) -> None:
        self._family = family

    def collect(self) -> Iterable[Family]:
        return (self._family,)


class _Reader(PrometheusMetricReader):
    """Adds histograms that we counted ourselves to what the SDK collected."""

    def __init__(self, registry: CollectorRegistry, histograms: Callable[[], list[Metric]]) -> None:
        super().__init__(scope_info_enabled=False, disable_target_info=True, registry=registry)
        self._histograms = histograms

    def _receive_metrics(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: object
    ) -> None:
        scope = ScopeMetrics(InstrumentationScope(SCOPE), self._histograms(), schema_url="")
        ours = ResourceMetrics(_RESOURCE, [scope], schema_url="")
        everything = MetricsData([*metrics_data.resource_metrics, ours])
        super()._receive_metrics(everything, timeout_millis, **kwargs)


_RESOURCE = Resource({"service.name": SCOPE})


def _histogram(spread: Spread, reading: Reading) -> Metric:
    points = [_point(distribution) for distribution in spread.read(reading)]
    return Metric(spread.name, spread.meaning, "s", Histogram(points, AggregationTemporality.CUMULATIVE))


def _point(counted: Distribution) -> HistogramDataPoint:
    """Times, smallest and largest are not known and not exported."""
    return HistogramDataPoint(
        attributes=counted.labels,
        start_time_unix_nano=0,
        time_unix_nano=0,
        count=sum(counted.counts),
        sum=counted.total_s,
        bucket_counts=counted.counts,
        explicit_bounds=counted.bounds_s,
        min=0.0,
        max=0.0,
    )
