"""What is made next, when, how, and what is given up."""

import random
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from actors.oona.policy import BreakerPolicy
from contracts.growth import Layout
from contracts.kernels import Design, KernelSpec, Strategy
from esper.breaker import Breaker
from esper.tezzeret.agenda import Agenda, Policy
from tests.examples import examples

BREAKER = BreakerPolicy(failures_max=3, open_s=60.0)
POLICY = Policy(second_from=3, attempts_max=3, backoff_s=(1.0, 8.0), jitter=0.25)


def spec(blueprint: int, size: int = 4, draw: int = 0) -> KernelSpec:
    return KernelSpec(Design(f"BP{blueprint:03}", Layout.VECTOR, (size,), size), draw)


def agenda(**changed: object) -> Agenda:
    fields = {name: getattr(POLICY, name) for name in POLICY.__struct_fields__}
    return Agenda(
        Policy(**(fields | changed)), random.Random(3), lambda: Breaker(BREAKER.failures_max, BREAKER.open_s)
    )


def begun(one: Agenda, now_s: float = 0.0) -> KernelSpec:
    task = one.begin(now_s)
    assert task is not None
    return task.spec


def crash(one: Agenda, now_s: float) -> tuple[KernelSpec, ...]:
    """Begin the next, and let its process die."""
    return one.failed(begun(one, now_s), "SIGSEGV", now_s, compiler_well=False)


# The order ------------------------------------------------------------------------------------------


def test_what_was_wanted_first_is_made_first_and_a_new_order_goes_ahead_of_it() -> None:
    one = agenda()
    one.want([spec(1), spec(2), spec(3)])
    one.want([spec(4), spec(3)])
    made = []
    while (task := one.begin(0.0)) is not None:
        made.append(task.spec)
        one.done(task.spec)
    assert made == [spec(4), spec(3), spec(1), spec(2)]
    assert one.progress().done == 4
    assert one.begin(0.0) is None


def test_wanting_again_what_is_being_made_makes_it_once() -> None:
    one = agenda()
    one.want([spec(1)])
    begun(one)
    one.want([spec(1)])
    assert one.begin(0.0) is None
    one.done(spec(1))
    assert (one.progress().done, one.progress().left) == (1, 0)


def test_a_second_one_is_made_beside_the_first_only_if_the_queue_is_long_and_never_a_third() -> None:
    one = agenda()
    one.want([spec(1), spec(2), spec(3)])
    one.done(begun(one))
    begun(one)
    assert one.begin(0.0) is None, "one waits: no second process for it"
    one.want([spec(number) for number in range(10, 14)])
    second = begun(one)
    assert one.begin(0.0) is None
    one.done(second)
    assert one.begin(0.0) is not None, "the second process is there now"


def test_until_a_process_has_made_one_there_is_no_second_however_long_the_queue() -> None:
    one = agenda()
    one.want([spec(number) for number in range(1, 20)])
    one.done(begun(one), drawn=True)
    first = begun(one)
    assert first == spec(2), "in order of likely use"
    assert one.begin(0.0) is None
    assert one.rest_s(0.0) is None
    one.done(first)
    assert (begun(one), begun(one)) == (spec(3), spec(4))


def test_two_draws_of_one_design_are_not_made_at_a_time() -> None:
    one = agenda()
    one.want([spec(1, draw=0), spec(1, draw=1), spec(1, draw=2), spec(1, draw=3)])
    assert begun(one) == spec(1, draw=0)
    assert one.begin(0.0) is None
    one.done(spec(1, draw=0))
    assert begun(one) == spec(1, draw=1)


def test_conservative_it_makes_one_at_a_time_and_only_exports() -> None:
    one = agenda()
    one.want([spec(number) for number in range(1, 9)])
    one.done(begun(one))
    one.conservative = True
    task = one.begin(0.0)
    assert task is not None
    assert task.strategy is Strategy.FAST
    assert one.begin(0.0) is None
    one.conservative = False
    second = one.begin(0.0)
    assert second is not None
    assert second.strategy is Strategy.STANDARD


# Failures -------------------------------------------------------------------------------------------


def test_a_failure_is_tried_again_after_a_rest_that_grows_and_then_given_up() -> None:
    one = agenda()
    one.want([spec(1)])
    assert crash(one, 0.0) == ()
    first = one.rest_s(0.0)
    assert first is not None
    assert 0.75 <= first <= 1.25
    assert one.begin(first - 0.01) is None
    assert crash(one, first) == ()
    second = one.rest_s(first)
    assert second is not None
    assert 6.0 <= second <= 10.0
    assert crash(one, 20.0) == (spec(1),)
    assert (one.progress().left, one.progress().failed) == (0, 1)
    assert one.rest_s(20.0) is None


def test_rests_of_as_many_streams_lie_apart_but_never_more_than_a_quarter_from_what_they_are() -> None:
    rests = []
    for seed in range(200):
        one = Agenda(Policy(), random.Random(seed), lambda: Breaker(BREAKER.failures_max, BREAKER.open_s))
        one.want([spec(1)])
        crash(one, 0.0)
        rest = one.rest_s(0.0)
        assert rest is not None
        rests.append(rest / one.policy.backoff_s[0])
    assert 0.75 <= min(rests) < 0.8, "who failed together does not try again together"
    assert 1.2 < max(rests) <= 1.25


def test_a_verdict_of_the_compiler_is_not_asked_for_again() -> None:
    one = agenda()
    one.want([spec(1)])
    assert one.failed(begun(one), "its output is not finite", 0.0, compiler_well=True) == (spec(1),)
    assert one.progress().failed == 1


def test_with_a_kernel_its_designs_other_draws_are_given_up_and_no_other_design() -> None:
    one = agenda()
    one.want([spec(1), spec(1, draw=1), spec(1, size=5), spec(2)])
    assert one.failed(begun(one), "no", 0.0, compiler_well=True) == (spec(1), spec(1, draw=1))
    assert begun(one) == spec(1, size=5)
    assert one.progress().failed == 2


def test_a_blueprint_that_fails_again_and_again_is_left_out_and_the_rest_goes_on() -> None:
    one = agenda()
    bad = [spec(1, size) for size in (4, 5, 6, 7)]
    one.want([*bad, spec(2)])
    for _ in range(3):
        one.failed(begun(one), "it hangs", 0.0, compiler_well=True)
    assert one.progress().left_out == {"BP001": "it hangs"}
    assert begun(one) == spec(2)
    one.done(spec(2))
    assert one.begin(59.0) is None
    assert one.rest_s(59.0) == pytest.approx(1.0)
    assert begun(one, 60.0) == bad[3], "a probe"
    one.done(bad[3])
    assert one.progress().left_out == {}


def test_one_bad_blueprint_is_not_taken_for_a_broken_compiler() -> None:
    one = agenda(attempts_max=9)
    one.want([spec(1)])
    for now_s in (0.0, 20.0, 40.0):
        crash(one, now_s)
    one.want([spec(2)])
    task = one.begin(41.0)
    assert task is not None
    assert task.strategy is Strategy.STANDARD


def test_after_three_bad_blueprints_in_a_row_the_plain_module_stands_in_for_the_untried_ones() -> None:
    one = agenda()
    one.want([spec(number) for number in (1, 2, 3)])
    for _ in range(3):
        crash(one, 0.0)
    one.want([spec(number) for number in (4, 5)])
    task = one.begin(10.0)
    assert task == (spec(4), Strategy.EMERGENCY)
    one.done(spec(4))
    task = one.begin(10.0)
    assert task == (spec(5), Strategy.EMERGENCY)
    one.done(spec(5))
    assert one.begin(10.0) is None, "those that failed wait for the compiler"
    assert one.rest_s(10.0) == pytest.approx(50.0)
    probe = one.begin(60.0)
    assert probe == (spec(1), Strategy.STANDARD)
    assert one.begin(60.0) is None, "one probe"
    one.done(spec(1))
    assert one.begin(60.0) == (spec(2), Strategy.STANDARD)


def test_a_native_compilation_that_failed_is_tried_again_without_the_native_compiler() -> None:
    one = agenda(strategy=Strategy.AGGRESSIVE)
    one.want([spec(1)])
    assert one.begin(0.0) == (spec(1), Strategy.AGGRESSIVE)
    one.failed(spec(1), "the compiler hangs", 0.0, compiler_well=False)
    assert one.begin(5.0) == (spec(1), Strategy.STANDARD)


def test_what_was_broken_off_waits_where_it_was_and_costs_no_attempt() -> None:
    one = agenda(attempts_max=1)
    one.want([spec(1), spec(2)])
    one.withdrawn(begun(one))
    assert one.progress().left == 2
    assert begun(one) == spec(1)


# Without a process ----------------------------------------------------------------------------------


def test_where_no_process_is_to_be_had_no_blueprint_is_blamed_and_it_is_tried_again_after_a_rest() -> None:
    one = agenda(attempts_max=1)
    one.want([spec(1), spec(2)])
    one.unstarted(begun(one), 0.0, for_good=False)
    progress = one.progress()
    assert (progress.left, progress.failed, progress.left_out) == (2, 0, {})
    rest = one.rest_s(0.0)
    assert rest is not None
    assert 0.75 <= rest <= 1.25
    assert one.begin(rest - 0.01) is None, "another kernel would fare no better"
    assert one.begin(rest) == (spec(1), Strategy.STANDARD)


def test_while_no_process_is_to_be_had_plain_modules_stand_in_until_a_probe_finds_one() -> None:
    one = agenda(attempts_max=1)
    one.want([spec(number) for number in range(1, 9)])
    for now_s in (0.0, 10.0, 20.0):
        one.unstarted(begun(one, now_s), now_s, for_good=False)
    assert one.begin(20.0) == (spec(1), Strategy.EMERGENCY)
    one.done(spec(1))
    assert one.begin(80.0) == (spec(2), Strategy.STANDARD), "a probe"
    one.unstarted(spec(2), 80.0, for_good=False)
    assert one.begin(80.0) == (spec(2), Strategy.EMERGENCY)
    one.done(spec(2))
    assert one.begin(140.0) == (spec(3), Strategy.STANDARD)
    one.done(spec(3))
    assert one.begin(140.0) == (spec(4), Strategy.STANDARD)
    assert (one.progress().failed, one.progress().left_out) == (0, {})


def test_where_there_will_never_be_a_process_plain_modules_stand_in_at_once_but_not_for_what_failed() -> None:
    one = agenda()
    one.want([spec(1)])
    crash(one, 0.0)
    one.want([spec(2), spec(3)])
    one.unstarted(begun(one), 0.0, for_good=True)
    for expected in (spec(2), spec(3)):
        assert one.begin(0.0) == (expected, Strategy.EMERGENCY)
        one.done(expected)
    assert one.begin(1000.0) is None, "what ended its process is not built in ours"
    assert one.rest_s(1000.0) is None
    assert (one.progress().left, one.progress().failed) == (1, 0)


def test_a_draw_that_needed_no_process_proves_nothing_of_the_compiler() -> None:
    one = agenda()
    one.want([spec(number) for number in range(1, 9)])
    for now_s in (0.0, 10.0, 20.0):
        one.done(begun(one, now_s), drawn=True)
        one.unstarted(begun(one, now_s), now_s, for_good=False)
    task = one.begin(20.0)
    assert task is not None
    assert task.strategy is Strategy.EMERGENCY


def test_what_is_refused_is_gone_and_its_blueprint_is_not_blamed() -> None:
    one = agenda()
    one.want([spec(1), spec(1, size=5)])
    for _ in range(2):
        one.refused(begun(one))
    assert one.begin(0.0) is None
    assert (one.progress().left, one.progress().failed, one.progress().left_out) == (0, 2, {})


# Any sequence ---------------------------------------------------------------------------------------


@dataclass
class Wanted:
    """What the model knows of one kernel."""

    spec: KernelSpec
    attempts: int = 0
    busy: bool = False


class AgendaMachine(RuleBasedStateMachine):
    """Beside a model that only keeps an ordered list: nothing is lost, made twice or made out of turn."""

    def __init__(self) -> None:
        super().__init__()
        self.agenda = agenda()
        self.now_s = 0.0
        self.items: list[Wanted] = []
        self.done = self.failed = 0
        self.proved = False

    @rule(chosen=st.lists(st.tuples(st.integers(1, 5), st.integers(4, 5), st.integers(0, 1)), max_size=4))
    def want(self, chosen: list[tuple[int, int, int]]) -> None:
        specs = [spec(*one) for one in dict.fromkeys(chosen)]
        known = {item.spec.key: item for item in self.items}
        ahead = [known.get(one.key, Wanted(one)) for one in specs]
        self.items = ahead + [item for item in self.items if item.spec not in specs]
        self.agenda.want(specs)

    @rule()
    def begin(self) -> None:
        busy = [item for item in self.items if item.busy]
        task = self.agenda.begin(self.now_s)
        if task is None:
            return
        item = self.item(task.spec)
        assert not item.busy
        assert len(busy) < (1 if self.agenda.conservative or not self.proved else 2)
        assert task.spec.design not in [other.spec.design for other in busy]
        assert task.strategy in (Strategy.EMERGENCY, self.usual)
        assert task.strategy is not Strategy.EMERGENCY or not item.attempts
        item.busy = True
        passed_over = self.items[: self.items.index(item)]
        fresh = {one.spec.design.blueprint_id for one in passed_over if not one.busy and not one.attempts}
        left_out = set(self.agenda.progress().left_out)
        designs = {one.spec.design.blueprint_id for one in busy}
        tried = {one.spec.design.blueprint_id for one in self.items if one.attempts}
        assert fresh <= left_out | designs | tried, "nothing untried was passed over without a reason"

    @rule(seconds=st.sampled_from([0.1, 2.0, 11.0, 61.0]))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    @rule()
    def care(self) -> None:
        self.agenda.conservative = not self.agenda.conservative

    @precondition(lambda self: any(item.busy for item in self.items))
    @rule(which=st.integers(0, 1))
    def finish(self, which: int) -> None:
        item = self.some_busy(which)
        self.agenda.done(item.spec)
        self.items.remove(item)
        self.done += 1
        self.proved = True

    @precondition(lambda self: any(item.busy for item in self.items))
    @rule(which=st.integers(0, 1))
    def refuse(self, which: int) -> None:
        item = self.some_busy(which)
        self.agenda.refused(item.spec)
        self.items.remove(item)
        self.failed += 1

    @precondition(lambda self: any(item.busy for item in self.items))
    @rule(which=st.integers(0, 1))
    def break_off(self, which: int) -> None:
        item = self.some_busy(which)
        self.agenda.withdrawn(item.spec)
        item.busy = False

    @precondition(lambda self: any(item.busy for item in self.items))
    @rule(which=st.integers(0, 1), well=st.booleans())
    def fail(self, which: int, well: bool) -> None:
        item = self.some_busy(which)
        lost = self.agenda.failed(item.spec, "why", self.now_s, compiler_well=well)
        item.attempts, item.busy = item.attempts + 1, False
        gone = well or item.attempts >= POLICY.attempts_max
        due = [one for one in self.items if one.spec.design == item.spec.design and not one.busy]
        assert list(lost) == ([one.spec for one in due] if gone else [])
        if gone:
            self.items = [one for one in self.items if one not in due]
            self.failed += len(due)

    @invariant()
    def nothing_is_lost(self) -> None:
        progress = self.agenda.progress()
        assert (progress.done, progress.left, progress.failed) == (self.done, len(self.items), self.failed)
        busy = [item.spec.design.blueprint_id for item in self.items if item.busy]
        assert sorted(progress.busy) == sorted(busy)

    @invariant()
    def whatever_waits_is_made_some_day(self) -> None:
        if self.items and not any(item.busy for item in self.items):
            rest = self.agenda.rest_s(self.now_s)
            assert rest is not None
            assert rest <= BREAKER.open_s

    @property
    def usual(self) -> Strategy:
        return Strategy.FAST if self.agenda.conservative else Strategy.STANDARD

    def some_busy(self, which: int) -> Wanted:
        busy = [item for item in self.items if item.busy]
        return busy[which % len(busy)]

    def item(self, wanted: KernelSpec) -> Wanted:
        (found,) = (item for item in self.items if item.spec == wanted)
        return found


TestAgenda = AgendaMachine.TestCase
TestAgenda.settings = settings(max_examples=examples(20, 400), stateful_step_count=40)
