"""What a service needs next: pure decisions, and a small world that carries them out."""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any, Final

from hypothesis import given, settings
from hypothesis import strategies as st

from muster.domain.model import Health
from muster.domain.phase import Phase
from muster.domain.program import Program
from muster.domain.resources import Resources
from muster.domain.rollout import (
    BACKOFF_MS_MAX,
    DRAIN_MS_MIN,
    Action,
    Deployed,
    Drop,
    End,
    GiveUp,
    GoBack,
    Instance,
    Launch,
    Mark,
    Rest,
    Scaled,
    Settle,
    Situation,
    StopAsDue,
    backoff_ms,
    plan,
)
from muster.domain.service import (
    InstancePhase,
    Scaling,
    Service,
    ServiceConfig,
    ServiceStatus,
    Wish,
    with_keys,
)

NOW: Final = 1_000_000
S, IP, P = ServiceStatus, InstancePhase, Phase


def config(name: str = "a", **more: Any) -> ServiceConfig:
    values: dict[str, Any] = {
        "model_id": name,
        "model_name": name,
        "model_version": "0.0.1",
        "specification": "one",
        "task": Resources(cpu_millis=1000, memory_mib=1024),
        "flavor_code": "one",
        "pool_id": "public",
        "partition": "public",
        "instance_count": 1,
        "health": Health(path="/health"),
        "program": Program(name=name, argv=("python", "run")),
    }
    return ServiceConfig(**(values | more))


def service(*configs: ServiceConfig, **more: Any) -> Service:
    values: dict[str, Any] = {
        "id": 1,
        "uid": "s",
        "project_id": "p",
        "name": "s",
        "owner_name": "ann",
        "configs": with_keys(configs or (config(),)),
    }
    return Service(**(values | more))


def instance(id_: int, key: str, phase: InstancePhase = IP.READY, **more: Any) -> Instance:
    values: dict[str, Any] = {
        "id": id_,
        "key": key,
        "phase": phase,
        "since_ms": NOW,
        "ready_at_ms": None if phase is IP.STARTING else NOW,
        "workload_id": id_,
        "workload_phase": P.RUNNING,
        "started_at_ms": NOW,
    }
    return Instance(**(values | more))


def situation(of: Service, *instances: Instance, **more: Any) -> Situation:
    values: dict[str, Any] = {
        "now_ms": NOW,
        "service": of,
        "instances": instances,
        "wanted": {one.key: one.instance_count for one in of.configs},
    }
    return Situation(**(values | more))


def deployed(*configs: ServiceConfig, **more: Any) -> Service:
    return service(*configs, is_deployed=True, status=S.RUNNING, **more)


def key_of(of: Service) -> str:
    return of.configs[0].key


class TestDeployment:
    def test_it_is_running_once_every_instance_is_ready(self) -> None:
        new = service(config(instance_count=2))
        key = key_of(new)
        first, second = instance(1, key), instance(2, key, IP.STARTING)

        waiting = plan(situation(new, first, second))
        marked = plan(situation(new, first, second, is_well={2: True}))
        done = plan(situation(new, first, instance(2, key)))

        assert waiting == []
        assert marked == [Mark(instance=second, phase=IP.READY)]
        assert done == [Deployed(), Settle(status=S.RUNNING)]

    def test_it_waits_while_no_node_has_room(self) -> None:
        new = service()
        queued = instance(1, key_of(new), IP.STARTING, workload_phase=P.QUEUED, started_at_ms=None)

        assert plan(situation(new, queued)) == [Settle(status=S.WAITING)]

    def test_it_fails_with_the_last_words_of_an_instance_that_ends_before_it_answers(self) -> None:
        new = service()
        ended = instance(1, key_of(new), IP.STARTING, workload_phase=P.FAILED, ended_at_ms=NOW)

        actions = plan(situation(new, ended, last_words={1: "no weights"}))

        assert actions == [GiveUp(why="no weights")]

    def test_it_fails_when_an_instance_does_not_answer_in_time(self) -> None:
        new = service(config(deploy_timeout_seconds=10))
        mute = instance(1, key_of(new), IP.STARTING)

        assert plan(situation(new, mute, now_ms=NOW + 10_000)) == []
        [gave_up] = plan(situation(new, mute, now_ms=NOW + 10_001))
        assert isinstance(gave_up, GiveUp)
        assert "did not answer GET /health within 10 s" in gave_up.why

    def test_time_in_the_queue_is_no_time_to_answer_in(self) -> None:
        new = service(config(deploy_timeout_seconds=10), status=S.WAITING)
        queued = instance(1, key_of(new), IP.STARTING, workload_phase=P.QUEUED, started_at_ms=None)

        assert plan(situation(new, queued, now_ms=NOW + 10**9)) == []


class TestRunning:
    def test_one_that_is_not_well_gets_no_requests_and_concerns(self) -> None:
        up = deployed(config(instance_count=2))
        key = key_of(up)
        sick = instance(2, key)

        marked = plan(situation(up, instance(1, key), sick, is_well={2: False}))
        after = plan(situation(up, instance(1, key), replace(sick, phase=IP.UNREADY)))

        assert marked == [Mark(instance=sick, phase=IP.UNREADY)]
        assert after == [Settle(status=S.CONCERNING)]

    def test_one_that_ends_is_replaced_after_a_while_that_doubles(self) -> None:
        up = replace(deployed(), status=S.CONCERNING)
        ended = instance(
            1, key_of(up), IP.UNREADY, workload_phase=P.FAILED, ended_at_ms=NOW, tries=3
        )

        early = plan(situation(up, ended, now_ms=NOW + 7_999))
        due = plan(situation(up, ended, now_ms=NOW + 8_000))

        assert early == []
        assert due == [Launch(key=key_of(up), tries=4, replaces=ended)]

    def test_one_that_was_well_for_long_is_replaced_as_quickly_as_the_first_time(self) -> None:
        up = replace(deployed(), status=S.CONCERNING)
        ended = instance(
            1, key_of(up), IP.UNREADY, workload_phase=P.FAILED, tries=9,
            ready_at_ms=NOW - 300_000, ended_at_ms=NOW,
        )  # fmt: skip

        assert plan(situation(up, ended, now_ms=NOW + 1_000)) == [
            Launch(key=key_of(up), tries=1, replaces=ended)
        ]

    def test_the_pause_before_a_replacement_has_a_bound(self) -> None:
        assert backoff_ms(0) == 1_000
        assert backoff_ms(10**6) == BACKOFF_MS_MAX

    def test_one_that_stays_unwell_is_ended(self) -> None:
        up = replace(deployed(), status=S.CONCERNING)
        sick = instance(1, key_of(up), IP.UNREADY, since_ms=NOW - 60_001)

        [end] = plan(situation(up, sick))

        assert isinstance(end, End)
        assert end.why

    def test_a_lost_one_is_replaced_after_a_while_and_not_missed_when_it_is_found(self) -> None:
        up = replace(deployed(), status=S.CONCERNING)
        key = key_of(up)
        lost = instance(1, key, IP.UNREADY, workload_phase=P.LOST, since_ms=NOW - 60_001)
        given_up = replace(lost, phase=IP.DRAINING, since_ms=NOW)

        assert plan(situation(up, lost)) == [Mark(instance=lost, phase=IP.DRAINING)]
        assert plan(situation(up, given_up)) == [Launch(key=key)]
        found = replace(given_up, workload_phase=P.RUNNING)
        later = situation(up, found, instance(2, key), now_ms=NOW + DRAIN_MS_MIN)
        assert End(instance=found) in plan(later)

    def test_one_whose_processes_do_not_end_is_replaced_and_left_alone(self) -> None:
        up = replace(deployed(), status=S.CONCERNING)
        stuck = instance(1, key_of(up), IP.UNREADY, workload_phase=P.STOP_FAILED, ended_at_ms=NOW)

        assert plan(situation(up, stuck)) == []
        assert plan(situation(up, stuck, now_ms=NOW + 1_000)) == [
            Launch(key=key_of(up), tries=1, replaces=stuck)
        ]

    def test_one_more_for_the_load_concerns_nobody_until_it_has_failed(self) -> None:
        up = deployed(config(scaling=Scaling(min_instances=1, max_instances=2)))
        key = key_of(up)
        fresh = instance(2, key, IP.STARTING)

        assert plan(situation(up, instance(1, key), fresh, wanted={key: 2})) == []
        again = replace(fresh, tries=1)
        assert plan(situation(up, instance(1, key), again, wanted={key: 2})) == [
            Settle(status=S.CONCERNING)
        ]

    def test_it_stops_when_its_time_is_over(self) -> None:
        up = deployed(due_at_ms=NOW)

        assert plan(situation(up, instance(1, key_of(up)))) == [StopAsDue()]


class TestUpdate:
    def updating(self, count: int = 2, **more: Any) -> tuple[Service, str, str]:
        old = with_keys([config("old", instance_count=count)])
        new = with_keys([config("new", instance_count=count, **more)])
        changing = service(*new, configs_before=old)
        return changing, old[0].key, new[0].key

    def test_a_new_one_is_started_before_an_old_one_goes(self) -> None:
        changing, old, new = self.updating()
        present = instance(1, old), instance(2, old)

        first = plan(situation(changing, *present))
        second = plan(situation(changing, *present, instance(3, new, IP.STARTING)))
        third = plan(situation(changing, *present, instance(3, new)))

        assert first == [Launch(key=new)]
        assert second == []
        assert third == [Mark(instance=present[0], phase=IP.DRAINING)]

    def test_an_old_one_ends_once_it_has_answered_the_last_request(self) -> None:
        changing, old, new = self.updating(count=1)
        leaving = instance(1, old, IP.DRAINING)
        later = NOW + DRAIN_MS_MIN

        busy = plan(situation(changing, leaving, instance(2, new), now_ms=later, in_flight={1: 1}))
        idle = plan(situation(changing, leaving, instance(2, new), now_ms=later))

        assert End(instance=leaving) not in busy
        assert End(instance=leaving) in idle

    def test_requests_are_waited_for_no_longer_than_the_grace_time(self) -> None:
        changing, old, new = self.updating(count=1)
        leaving = instance(1, old, IP.DRAINING)

        actions = plan(
            situation(changing, leaving, instance(2, new), now_ms=NOW + 30_000, in_flight={1: 1})
        )

        assert End(instance=leaving) in actions

    def test_one_that_never_comes_up_makes_it_go_back(self) -> None:
        changing, old, new = self.updating(count=1)
        ended = instance(2, new, IP.STARTING, workload_phase=P.FAILED, ended_at_ms=NOW)

        actions = plan(situation(changing, instance(1, old), ended, last_words={2: "bad"}))

        assert actions == [GoBack(why="bad")]

    def test_other_weights_alone_leave_every_instance_as_it_is(self) -> None:
        parts = with_keys([config("a", weight=50), config("b", weight=50)])
        other = with_keys([config("a", weight=90), config("b", weight=10)])

        assert [one.key for one in parts] == [one.key for one in other]
        changing = service(*other, configs_before=parts)
        present = [instance(index, one.key) for index, one in enumerate(other)]
        assert plan(situation(changing, *present)) == [Deployed(), Settle(status=S.RUNNING)]

    def test_parts_that_run_the_same_are_told_apart(self) -> None:
        first, second = with_keys([config("a"), config("a")])

        assert first.key != second.key


class TestStopping:
    def test_everything_ends_and_then_nothing_needs_a_look(self) -> None:
        stopping = service(wish=Wish.STOPPED, status=S.STOPPING)
        live = instance(1, key_of(stopping))
        ended = replace(live, workload_phase=P.TERMINATED, ended_at_ms=NOW)

        assert plan(situation(stopping, live)) == [End(instance=live)]
        assert plan(situation(stopping, ended)) == [Settle(status=S.STOPPED), Rest()]

    def test_one_that_failed_stays_failed(self) -> None:
        failed = service(wish=Wish.STOPPED, status=S.FAILED, error="it broke")

        assert plan(situation(failed)) == [Rest()]


class TestScaling:
    scaled = config(
        scaling=Scaling(
            min_instances=1, max_instances=4, target_concurrency=10, cooldown_seconds=60
        )
    )

    def test_what_the_load_changes_is_told_with_the_reason(self) -> None:
        up = deployed(self.scaled)
        key = key_of(up)

        def told(before: int, count: int, of: Service = up) -> list[str]:
            now = situation(
                of,
                *(instance(number, key) for number in range(before)),
                wanted={key: count},
                wanted_before={key: before},
                concurrency={key: 23.45},
            )
            return [str(action) for action in plan(now) if isinstance(action, Scaled)]

        [more], [fewer] = told(1, 3), told(3, 2)
        assert "from 1 to 3 instances: about 23.4 requests at once" in more
        assert "from 3 to 2 instances" in fewer
        assert "for 60 s fewer" in fewer
        assert told(2, 2) == []
        assert told(1, 3, replace(up, is_deployed=False)) == []


# ---------------------------------------------------------------- a world that carries plans out


@dataclass
class World:
    """Carries plans out at once; instances come up, answer and crash as they are told."""

    service: Service
    instances: list[Instance] = field(default_factory=list)
    now_ms: int = NOW
    last_id: int = 0

    def step(self) -> None:
        for _ in range(100):
            actions = plan(self.situation())
            if not actions or actions[-1] == Rest():
                return
            for action in actions:
                self.do(action)
        raise AssertionError(f"there is no end of it: {actions}")

    def situation(self) -> Situation:
        return situation(
            self.service,
            *self.instances,
            now_ms=self.now_ms,
            is_well={one.id: True for one in self.instances if one.workload_phase is P.RUNNING},
        )

    def do(self, action: Action) -> None:
        match action:
            case Launch(key=key, tries=tries, replaces=replaces):
                self.instances = [one for one in self.instances if one != replaces]
                self.start(key, tries)
            case Mark(instance=one, phase=phase):
                ready = self.now_ms if phase is IP.READY else one.ready_at_ms
                self.change(one, phase=phase, since_ms=self.now_ms, ready_at_ms=ready)
            case End(instance=one):
                self.change(one, workload_phase=P.TERMINATED, ended_at_ms=self.now_ms)
            case Drop(instance=one):
                self.instances = [other for other in self.instances if other.id != one.id]
            case Settle(status=status):
                self.service = replace(self.service, status=status)
            case Deployed():
                self.service = replace(self.service, is_deployed=True, configs_before=())
            case _:
                raise AssertionError(action)

    def start(self, key: str, tries: int = 0) -> None:
        self.last_id += 1
        self.instances.append(
            instance(
                self.last_id, key, IP.STARTING, since_ms=self.now_ms, started_at_ms=self.now_ms,
                tries=tries,
            )
        )  # fmt: skip

    def change(self, one: Instance, **changes: Any) -> None:
        self.instances = [
            replace(other, **changes) if other.id == one.id else other for other in self.instances
        ]

    @property
    def ready(self) -> int:
        return sum(one.is_ready for one in self.instances)


@settings(max_examples=60, deadline=None)
@given(
    before=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    after=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    surge=st.integers(1, 3),
)
def test_an_update_never_has_fewer_ready_than_before_or_after(
    before: list[int], after: list[int], surge: int
) -> None:
    old = with_keys([config(f"old-{n}", instance_count=count) for n, count in enumerate(before)])
    new = with_keys(
        [config(f"new-{n}", instance_count=count, max_surge=surge) for n, count in enumerate(after)]
    )
    world = World(service(*old))
    for one in old:
        for _ in range(one.instance_count):
            world.start(one.key)
    world.step()
    assert world.service.status is S.RUNNING
    least, most = min(sum(before), sum(after)), max(sum(before), sum(after)) + surge

    world.service = replace(
        world.service, configs=new, configs_before=old, is_deployed=False, status=S.DEPLOYING
    )
    for _ in range(100):
        world.step()
        assert world.ready >= least
        assert sum(not one.is_draining for one in world.instances) <= most
        world.now_ms += DRAIN_MS_MIN

    assert world.service.status is S.RUNNING
    assert Counter(one.key for one in world.instances) == Counter(
        {one.key: one.instance_count for one in new}
    )


@settings(max_examples=40, deadline=None)
@given(crashes=st.lists(st.integers(0, 2), max_size=12))
def test_whatever_crashes_comes_back(crashes: list[int]) -> None:
    world = World(service(config(instance_count=3)))
    for _ in range(3):
        world.start(key_of(world.service))
    world.step()

    for victim in crashes:
        one = world.instances[victim % len(world.instances)]
        world.change(one, workload_phase=P.FAILED, ended_at_ms=world.now_ms)
        world.step()
        world.now_ms += 100
    for _ in range(30):
        world.now_ms += BACKOFF_MS_MAX
        world.step()

    assert world.ready == 3
    assert world.service.status is S.RUNNING
