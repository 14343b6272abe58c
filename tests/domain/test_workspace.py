"""Workspaces without a store: names, access, room in quotas, lists."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.domain.errors import InvalidRequest, NameTaken, QuotaExceeded, WorkspaceFixed
from muster.domain.permission import Role
from muster.domain.resources import Resources
from muster.domain.workload import WorkloadType
from muster.domain.workspace import (
    GRANTS_MAX,
    QUOTAS,
    AuthType,
    Grant,
    Quota,
    QuotaResource,
    Use,
    Workspace,
    WorkspaceList,
    asked_by,
    check_is_changeable,
    check_room,
    check_workspace,
    limits_of,
    role_in,
    select,
)

VISION = Workspace(id="1" * 32, name="vision", owner_id="olaf", auth_type=AuthType.PRIVATE)


def entered(
    workspace: Workspace, *, role: Role = Role.DEVELOPER, own: Role | None = None
) -> object:
    return role_in(workspace, user_id="id-of-eve", user_name="eve", project_role=role, own_role=own)


class TestNames:
    @pytest.mark.parametrize("name", ["abcd", "A-1_", "视觉团队", "x" * 64, "Default", "defaults"])
    def test_letters_digits_cjk_hyphen_and_underscore(self, name: str) -> None:
        check_workspace(replace(VISION, name=name))

    @pytest.mark.parametrize(
        "name", ["", "abc", "x" * 65, "with space", "dot.ted", "naïve", "имена", "emoji😀", "a/bc"]
    )
    def test_nothing_else(self, name: str) -> None:
        with pytest.raises(InvalidRequest, match="it must be 4 to 64 letters") as refused:
            check_workspace(replace(VISION, name=name))

        assert repr(name) in refused.value.message

    def test_default_is_reserved(self) -> None:
        with pytest.raises(NameTaken, match="name is 'default'"):
            check_workspace(replace(VISION, name="default"))

    def test_a_description_has_an_end(self) -> None:
        check_workspace(replace(VISION, description="x" * 256))
        with pytest.raises(InvalidRequest, match="description has 257 characters; at most 256"):
            check_workspace(replace(VISION, description="x" * 257))

    def test_grants_are_for_somebody_and_bounded(self) -> None:
        with pytest.raises(InvalidRequest, match=r"grants\[1\] names nobody"):
            check_workspace(replace(VISION, grants=(Grant(user_id="a"), Grant())))
        with pytest.raises(InvalidRequest, match=f"grants has {GRANTS_MAX + 1} entries"):
            check_workspace(replace(VISION, grants=(Grant(user_id="a"),) * (GRANTS_MAX + 1)))

    def test_the_default_one_is_fixed(self) -> None:
        check_is_changeable(VISION)
        with pytest.raises(WorkspaceFixed, match="workspace_id is '0'"):
            check_is_changeable(replace(VISION, id="0"))


class TestAccess:
    def test_everybody_enters_a_public_one_as_what_they_are(self) -> None:
        for role in Role:
            assert entered(replace(VISION, auth_type=AuthType.PUBLIC), role=role) is role

    def test_a_private_one_is_for_its_owner_and_administrators(self) -> None:
        assert entered(VISION) is None
        assert entered(VISION, role=Role.RESOURCE_MANAGER) is None
        assert entered(VISION, role=Role.ADMINISTRATOR) is Role.ADMINISTRATOR
        assert entered(replace(VISION, owner_id="id-of-eve")) is Role.DEVELOPER

    def test_grants_count_only_where_it_is_internal(self) -> None:
        grants = (Grant(user_id="id-of-eve"),)

        assert entered(replace(VISION, grants=grants)) is None
        internal = replace(VISION, auth_type=AuthType.INTERNAL, grants=grants)
        assert entered(internal) is Role.DEVELOPER

    @pytest.mark.parametrize(
        ("grant", "is_let_in"),
        [
            (Grant(user_id="id-of-eve"), True),
            (Grant(user_name="eve"), True),
            (Grant(user_id="id-of-eve", user_name="ada"), True),
            (Grant(user_id="id-of-ada", user_name="eve"), False),
            (Grant(user_name="EVE"), False),
            (Grant(user_id="eve"), False),
        ],
    )
    def test_the_id_of_a_grant_outranks_its_name(self, grant: Grant, is_let_in: bool) -> None:
        internal = replace(VISION, auth_type=AuthType.INTERNAL, grants=(grant,))

        assert (entered(internal) is not None) == is_let_in

    def test_a_role_of_its_own_lets_in_and_counts(self) -> None:
        assert entered(VISION, own=Role.READER) is Role.READER
        assert entered(VISION, role=Role.ADMINISTRATOR, own=Role.READER) is Role.READER


class TestRoom:
    @given(
        st.integers(-1, 20), st.integers(0, 30), st.integers(0, 30),
        st.sampled_from(list(QuotaResource)),
    )  # fmt: skip
    def test_what_fits_is_what_is_left(
        self, quota: int, used: int, asked: int, resource: QuotaResource
    ) -> None:
        per_unit = QUOTAS[resource].per_unit
        given_ = Quota(resource=resource, quota=quota, used=used)
        fits = quota == -1 or asked == 0 or used + asked <= quota * per_unit

        try:
            check_room("w", [given_], {resource: asked})
        except QuotaExceeded:
            assert not fits
        else:
            assert fits

    def test_a_refusal_names_the_resource_the_quota_what_is_left_and_what_was_asked(self) -> None:
        quota = Quota(resource=QuotaResource.TRAINING_CPUS, quota=4, used=2500)

        with pytest.raises(QuotaExceeded) as refused:
            check_room("w1", [quota], {QuotaResource.TRAINING_CPUS: 2000})

        assert refused.value.message == (
            "Workspace 'w1' may have 4 of training.cpus and has 1.5 left; 2 more was asked for."
            " Wait until something ends, ask for less, or have the quota raised."
        )

    def test_what_is_used_is_shown_in_whole_units_and_never_too_low(self) -> None:
        cpus = Quota(resource=QuotaResource.TRAINING_CPUS, quota=4, used=2001)

        assert cpus.shown_used == 3
        assert replace(cpus, used=2000).shown_used == 2
        assert replace(cpus, quota=-1).shown_used is None

    def test_a_workload_asks_for_what_its_type_counts(self) -> None:
        use = Use.of(Resources(cpu_millis=2000, memory_mib=1024, gpu_count=2, npu_count=1))

        assert asked_by(WorkloadType.TRAIN, use) == {
            "training.jobs": 1, "training.gpus": 2, "training.npus": 1, "training.cpus": 2000,
            "training.memory": 1024,
        }  # fmt: skip
        assert asked_by(WorkloadType.NOTEBOOK, use) == {"devenv.instances": 1}
        assert asked_by(WorkloadType.INFER, use) == {"infer.instances": 1}

    @given(
        st.sampled_from(list(WorkloadType)),
        st.dictionaries(st.sampled_from(list(QuotaResource)), st.integers(-1, 3), max_size=4),
        st.tuples(*[st.integers(0, 3_000)] * 5),
        st.tuples(*[st.integers(0, 1_500)] * 5),
    )
    def test_what_keeps_within_the_limits_is_what_there_is_room_for(
        self,
        type_: WorkloadType,
        quotas: dict[QuotaResource, int],
        used: tuple[int, ...],
        asked: tuple[int, ...],
    ) -> None:
        names = ("workload_count", "cpu_millis", "memory_mib", "gpu_count", "npu_count")
        use, more = (Use(**dict(zip(names, of, strict=True))) for of in (used, asked))
        counted = asked_by(type_, use)
        limited = [
            Quota(resource=resource, quota=quota, used=counted.get(resource, 0))
            for resource, quota in quotas.items()
        ]

        limits = limits_of(type_, limited)

        fits = all(
            not getattr(more, name) or getattr(use, name) + getattr(more, name) <= limit
            for name, limit in limits.items()
        )
        try:
            check_room("w", limited, asked_by(type_, more))
        except QuotaExceeded:
            assert not fits
        else:
            assert fits

    def test_every_quota_is_counted_somehow(self) -> None:
        assert set(QUOTAS) == set(QuotaResource)
        counted = {r for type_ in WorkloadType for r in asked_by(type_, Use())}
        assert counted == set(QuotaResource) - {QuotaResource.POOL_NODES}


class TestLists:
    SOME = (
        Workspace(id="a", name="beta", updated_at_ms=3, enterprise_project_id="e"),
        Workspace(id="b", name="Alpha", updated_at_ms=1),
        Workspace(id="c", name="beta-2", updated_at_ms=2),
    )

    def ids(self, **query: object) -> list[str]:
        _, page = select(self.SOME, WorkspaceList(**query))  # type: ignore[arg-type]
        return [workspace.id for workspace in page]

    def test_by_name_descending_unless_asked_otherwise(self) -> None:
        assert self.ids() == ["c", "a", "b"]
        assert self.ids(is_descending=False) == ["b", "a", "c"]
        assert self.ids(sort_by="update_time") == ["a", "c", "b"]
        assert self.ids(sort_by="status") == ["a", "b", "c"]

    def test_filters(self) -> None:
        assert self.ids(name="BETA") == ["c", "a"]
        assert self.ids(name="%") == []
        assert self.ids(enterprise_project_id="e") == ["a"]
        assert self.ids(hidden=frozenset("ac")) == ["b"]

    def test_pages_neither_repeat_nor_skip(self) -> None:
        pages = [self.ids(page=page, limit=2) for page in range(3)]

        assert pages == [["c", "a"], ["b"], []]
        assert select(self.SOME, WorkspaceList(page=9, limit=2))[0] == 3
