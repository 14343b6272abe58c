"""Batch services: what they may be asked for, how far they are, and what comes next."""

import json
from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.domain.batch import (
    COLUMN_MAX,
    FAILURES_TOLD_MAX,
    RULE_BYTES_MAX,
    RULE_DEPTH_MAX,
    BatchJob,
    MappingType,
    Progress,
    Tally,
    check_uri,
    form_field,
    read_mapping_rule,
    read_mapping_type,
    sum_up,
    without_answers,
)
from muster.domain.batchplan import BatchSituation, plan_batch
from muster.domain.errors import InvalidRequest
from muster.domain.model import Health
from muster.domain.phase import FINISHED, Phase
from muster.domain.program import Program
from muster.domain.resources import Resources
from muster.domain.rollout import (
    Counted,
    End,
    Finished,
    GiveUp,
    Instance,
    Rest,
    Settle,
)
from muster.domain.service import (
    SHARE_VARIABLE,
    InferType,
    InstancePhase,
    Service,
    ServiceConfig,
    ServiceStatus,
    Wish,
)

S, P = ServiceStatus, Phase

CONFIG: Final = ServiceConfig(
    key="k",
    model_id="m",
    model_name="m",
    model_version="0.0.1",
    specification="one",
    task=Resources(cpu_millis=1000, memory_mib=1024),
    flavor_code="one",
    pool_id="public",
    partition="public",
    instance_count=2,
    health=Health(),
    program=Program(name="m", argv=("python", "batch.py"), environment={"A": "1"}),
    batch=BatchJob(src_path="/b/in/", dest_path="/b/out/", mapping_type=MappingType.FILE),
)


def service(**more: Any) -> Service:
    values: dict[str, Any] = {
        "id": 1,
        "uid": "s",
        "project_id": "p",
        "name": "s",
        "owner_name": "ann",
        "infer_type": InferType.BATCH,
        "configs": (CONFIG,),
    }
    return Service(**(values | more))


def instance(id_: int, phase: Phase) -> Instance:
    return Instance(
        id=id_,
        key="k",
        phase=InstancePhase.STARTING,
        since_ms=0,
        workload_id=id_,
        workload_phase=phase,
    )


def situation(of: Service, *phases: Phase, **more: Any) -> BatchSituation:
    instances = tuple(instance(id_, phase) for id_, phase in enumerate(phases, start=1))
    return BatchSituation(now_ms=0, service=of, instances=instances, **more)


BEGUN: Final = Progress(is_ready=True, total=10, answered=5)
DONE: Final = Progress(is_ready=True, total=10, answered=10)
NOTHING: Final = Progress(is_ready=True)


class TestPlan:
    @pytest.mark.parametrize(
        ("phases", "is_ready", "status"),
        [
            ((P.QUEUED, P.CREATING), False, S.WAITING),
            ((P.QUEUED, P.STARTING), False, S.DEPLOYING),
            ((P.QUEUED, P.RUNNING), False, S.DEPLOYING),
            ((P.QUEUED, P.RUNNING), True, S.RUNNING),
            ((P.COMPLETED, P.QUEUED), True, S.RUNNING),
        ],
    )
    def test_it_runs_once_the_first_model_is_well(
        self, phases: tuple[Phase, ...], is_ready: bool, status: ServiceStatus
    ) -> None:
        progress = {phases.index(phases[-1]) + 1: BEGUN} if is_ready else {}
        before = S.DEPLOYING if status is not S.DEPLOYING else S.WAITING

        actions = plan_batch(situation(service(status=before), *phases, progress=progress))

        assert actions[-1] == Settle(status=status)

    def test_it_is_finished_when_all_instances_have_ended_well(self) -> None:
        some = {1: DONE, 2: NOTHING}

        actions = plan_batch(situation(service(), P.COMPLETED, P.COMPLETED, progress=some))

        assert actions == [
            Counted(tally=Tally(total=10, answered=10, percent=99)),
            Finished(),
        ]

    def test_it_fails_where_nothing_was_answered(self) -> None:
        failed = Progress(is_ready=True, total=2, failed=2, failures=(("a", "no"), ("b", "nor")))

        [_, given_up] = plan_batch(
            situation(service(), P.COMPLETED, P.COMPLETED, progress={1: failed, 2: NOTHING})
        )
        [no_input] = plan_batch(
            situation(
                service(tally=Tally(percent=99)),
                P.COMPLETED,
                P.COMPLETED,
                progress={1: NOTHING, 2: NOTHING},
            )
        )

        assert given_up == GiveUp(why="None of the 2 requests was answered: a (no); b (nor).")
        assert isinstance(no_input, GiveUp)
        assert "no input" in no_input.why

    @pytest.mark.parametrize("phase", [P.FAILED, P.CREATE_FAILED, P.TERMINATED])
    def test_it_fails_as_soon_as_one_instance_has_ended_badly(self, phase: Phase) -> None:
        words = {2: "exit code 7"}

        actions = plan_batch(situation(service(), P.RUNNING, phase, last_words=words))

        assert actions == [GiveUp(why="exit code 7")]

    def test_one_that_is_lost_may_be_found_again(self) -> None:
        running = service(status=S.RUNNING, tally=sum_up([BEGUN], instance_count=2))

        actions = plan_batch(situation(running, P.LOST, P.RUNNING, progress={1: BEGUN}))

        assert actions == []

    def test_what_still_runs_of_a_stopped_one_is_ended_and_then_it_rests(self) -> None:
        stopped = service(wish=Wish.STOPPED, status=S.STOPPING)

        first = plan_batch(situation(stopped, P.RUNNING, P.COMPLETED))
        then = plan_batch(situation(stopped, P.TERMINATED, P.COMPLETED))

        assert first == [End(instance=instance(1, P.RUNNING))]
        assert then == [Settle(status=S.STOPPED), Rest()]

    def test_one_that_failed_or_is_finished_stays_so(self) -> None:
        failed = service(wish=Wish.STOPPED, status=S.FAILED, error="why")
        finished = service(wish=Wish.STOPPED, status=S.FINISHED, is_deployed=True)

        assert plan_batch(situation(failed, P.FAILED, P.TERMINATED)) == [Rest()]
        assert plan_batch(situation(finished, P.COMPLETED, P.COMPLETED)) == [Rest()]

    @given(
        st.sampled_from([S.DEPLOYING, S.WAITING, S.RUNNING]),
        st.lists(st.sampled_from(Phase), min_size=1, max_size=4),
        st.lists(st.sampled_from([None, BEGUN, DONE, NOTHING]), min_size=4, max_size=4),
    )
    def test_a_plan_that_was_carried_out_leaves_nothing_to_do(
        self, status: ServiceStatus, phases: list[Phase], told: list[Progress | None]
    ) -> None:
        progress = {id_: one for id_, one in enumerate(told, start=1) if one is not None}
        progress = {id_: one for id_, one in progress.items() if id_ <= len(phases)}
        one = situation(service(status=status), *phases, progress=progress)

        for action in plan_batch(one):
            one = carried_out(one, action)

        again = [action for action in plan_batch(one) if not isinstance(action, End | Rest)]
        assert again == []

    @given(st.lists(st.sampled_from(sorted(FINISHED)), min_size=1, max_size=4))
    def test_one_whose_instances_have_all_ended_comes_to_an_end(self, phases: list[Phase]) -> None:
        actions = plan_batch(situation(service(), *phases))

        assert any(isinstance(action, Finished | GiveUp) for action in actions)


def carried_out(one: BatchSituation, action: object) -> BatchSituation:
    of = one.service
    match action:
        case Counted():
            of = replace(of, tally=action.tally)
        case Settle():
            of = replace(of, status=action.status)
        case Finished():
            of = replace(of, wish=Wish.STOPPED, status=S.FINISHED, is_deployed=True)
        case GiveUp():
            of = replace(of, wish=Wish.STOPPED, status=S.FAILED, error=action.why)
        case _:  # what it does is not seen at once
            pass
    return replace(one, service=of)


class TestTally:
    def test_a_share_that_has_not_begun_counts_as_nothing_done(self) -> None:
        tally = sum_up([BEGUN, DONE], instance_count=4)

        assert (tally.total, tally.answered, tally.percent) == (20, 15, 37)

    def test_answers_that_were_lost_count_as_failures(self) -> None:
        share = Progress(is_ready=True, total=3, answered=1, failed=2, failures=(("a", "no"),))

        found = without_answers(share, ["x", "y"])

        assert without_answers(share, []) == share
        assert (found.answered, found.failed) == (0, 3)
        assert [name for name, _ in found.failures] == ["a", "x", "y"]

    def test_failures_are_named_up_to_a_bound(self) -> None:
        failures = tuple((f"f{number}", "no") for number in range(FAILURES_TOLD_MAX))
        share = Progress(is_ready=True, total=50, answered=10, failed=30, failures=failures)

        told = sum_up([share, share], instance_count=2).told_failures()

        assert told.startswith("f0 (no); f1 (no); ")
        assert told.endswith(f"; and {60 - FAILURES_TOLD_MAX} more")

    @given(
        st.lists(
            st.builds(
                lambda answered, failed, left: Progress(
                    is_ready=True, total=answered + failed + left, answered=answered, failed=failed
                ),
                st.integers(0, 100),
                st.integers(0, 100),
                st.integers(0, 100),
            ),
            min_size=1,
        )
    )
    def test_percents_stay_below_a_hundred_until_it_is_finished(
        self, shares: list[Progress]
    ) -> None:
        tally = sum_up(shares, instance_count=len(shares))

        assert 0 <= tally.percent <= 99
        assert tally.asked <= tally.total


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (
            {
                "Content-type": "multipart/form-data",
                "data": {"type": "object", "properties": {"images": {"type": "file"}}},
            },
            "images",
        ),
        (
            {
                "Content-Type": "Multipart/Form-Data; charset=utf-8",
                "data": {"properties": {"level": {"type": "number"}, "photo": {"type": "FILE"}}},
            },
            "photo",
        ),
        ({"Content-type": "application/json", "data": {"properties": {"a": {"type": "file"}}}}, ""),
        ({"Content-type": "multipart/form-data", "data": {"properties": {"a": 5}}}, ""),
        ({"Content-type": "multipart/form-data", "data": []}, ""),
        ({"Content-type": 5}, ""),
        ("text", ""),
    ],
)
def test_a_file_goes_into_the_form_that_the_model_says_it_takes(
    request_: object, field: str
) -> None:
    apis: list[dict[str, Any]] = [{"url": "/other"}, {"url": "/ask", "request": request_}]

    assert form_field(apis, "/ask?x=1") == field
    assert form_field(apis, "/other") == ""


def test_each_instance_is_told_its_share() -> None:
    first, second = CONFIG.program_of(0), CONFIG.program_of(1)

    assert first.environment == {"A": "1", SHARE_VARIABLE: "0/2"}
    assert second.environment[SHARE_VARIABLE] == "1/2"
    assert replace(CONFIG, batch=None).program_of(1) == CONFIG.program


class TestRules:
    RULE: Final = {
        "type": "object",
        "properties": {
            "rows": {
                "type": "array",
                "items": [{"type": "object", "properties": {"x": {"type": "number", "index": 0}}}],
            },
            "flags": {"type": "array", "items": {"type": "boolean", "index": 3}},
        },
    }

    def test_a_rule_is_read_as_json_and_as_the_text_of_it(self) -> None:
        assert read_mapping_rule(self.RULE, field_name="rule") == self.RULE
        assert read_mapping_rule(json.dumps(self.RULE), field_name="rule") == self.RULE

    @pytest.mark.parametrize(
        ("rule", "words"),
        [
            ("{'a': 1}", "rule is \"{'a': 1}\", which is no JSON"),
            ("[1]", "rule is [1]; it must be a JSON schema"),
            (5, "rule is 5; it must be a JSON schema"),
            ({}, "rule.type is missing; it must be 'object', 'array'"),
            ({"type": "null"}, "rule.type is 'null'; it must be"),
            ({"type": ["number"]}, "rule.type is ['number']; it must be"),
            ({"type": "number", "index": 0}, "rule.type is 'number'; the whole request must be"),
            ({"type": "object"}, "rule.properties is missing"),
            ({"type": "object", "properties": {}}, "rule.properties is {}"),
            ({"type": "array"}, "rule.items is missing"),
            ({"type": "array", "items": []}, "rule.items is []"),
            (
                {"type": "object", "properties": {"a": {"type": "string"}}},
                "rule.properties.a.index is missing; it must be the number of a column, from 0 to",
            ),
            (
                {"type": "array", "items": [{"type": "integer", "index": -1}]},
                "items[0].index is -1",
            ),
            ({"type": "array", "items": {"type": "integer", "index": True}}, "items.index is True"),
            (
                {"type": "array", "items": {"type": "integer", "index": COLUMN_MAX + 1}},
                "items.index is 10001",
            ),
        ],
    )
    def test_what_is_no_rule_is_refused_and_named(self, rule: object, words: str) -> None:
        with pytest.raises(InvalidRequest) as refused:
            read_mapping_rule(rule, field_name="rule")

        assert words in refused.value.message

    def test_a_rule_has_bounds(self) -> None:
        deep: dict[str, Any] = {"type": "number", "index": 0}
        for _ in range(RULE_DEPTH_MAX + 1):
            deep = {"type": "array", "items": deep}
        wide = {
            "type": "object",
            "properties": {
                str(number).rjust(40, "x"): {"type": "string", "index": 0}
                for number in range(RULE_BYTES_MAX // 40)
            },
        }

        with pytest.raises(InvalidRequest, match="levels deep"):
            read_mapping_rule(deep, field_name="rule")
        with pytest.raises(InvalidRequest, match="at most 32768 are allowed"):
            read_mapping_rule(wide, field_name="rule")
        with pytest.raises(InvalidRequest, match="no JSON"):
            read_mapping_rule("[" * 100_000, field_name="rule")

    def test_a_mapping_type_and_a_path_are_checked(self) -> None:
        assert read_mapping_type("CSV", field_name="t") is MappingType.CSV
        check_uri("/v1/predict?x=1", field_name="u")
        with pytest.raises(InvalidRequest, match="t is 'rows'; it must be 'file' or 'csv'"):
            read_mapping_type("rows", field_name="t")
        for uri in ("predict", "/a b", "/a\r\nX: y", "/é", "/" * 1025):
            with pytest.raises(InvalidRequest, match="u is '"):
                check_uri(uri, field_name="u")
