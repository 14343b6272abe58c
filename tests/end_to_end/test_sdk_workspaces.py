"""The Huawei Cloud SDK, unmodified: workspaces, quotas, permission checks, authorizations."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import httpx
import pytest
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions import exceptions
from huaweicloudsdkmodelarts import v1 as sdk

from tests.end_to_end.server import Remote, run_muster, running_server
from tests.end_to_end.test_huawei_sdk import client_of

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    with running_server(tmp_path_factory.mktemp("sdk")) as remote:
        yield remote


@pytest.fixture(scope="module")
def client(remote: Remote) -> sdk.ModelArtsClient:
    return client_of(remote)


def create(client: sdk.ModelArtsClient, **fields: Any) -> Any:
    body = sdk.CreateWorkspaceReq(**fields)
    return client.create_workspace(sdk.CreateWorkspaceRequest(body=body))


def refused(call: Callable[[], object], status: int, code: str) -> str:
    """The message of a refusal, as the SDK hands it out."""
    with pytest.raises(exceptions.ClientRequestException) as error:
        call()
    assert (error.value.status_code, error.value.error_code) == (status, f"ModelArts.{code}")
    assert error.value.request_id
    return str(error.value.error_msg)


class TestWorkspaces:
    def test_one_is_made_and_shown_with_everything(self, client: sdk.ModelArtsClient) -> None:
        made = create(
            client,
            name="视觉-vision_1",
            description="Was sieht, 看",
            enterprise_project_id="ep-1",
            auth_type="INTERNAL",
            grants=[
                sdk.CreateWorkspaceReqGrants(user_id="u-1", user_type="IAM"),
                sdk.CreateWorkspaceReqGrants(user_name="eve"),
            ],
        )

        assert (made.name, made.description) == ("视觉-vision_1", "Was sieht, 看")
        assert (made.owner, made.auth_type, made.status) == ("admin", "INTERNAL", "NORMAL")
        assert isinstance(made.create_time, int)
        assert made.update_time == made.create_time
        shown = client.show_workspace(sdk.ShowWorkspaceRequest(workspace_id=made.id))
        assert shown.to_json_object() == made.to_json_object()
        assert [(g.user_id, g.user_name, g.user_type) for g in shown.grants] == [
            ("u-1", None, "IAM"),
            (None, "eve", "IAM"),
        ]
        assert shown.enterprise_project_id == "ep-1"
        assert shown.status_info == ""

    def test_they_are_listed(self, client: sdk.ModelArtsClient) -> None:
        for name in ("list-a", "list-b", "list-c"):
            create(client, name=name)

        def listed(**query: Any) -> tuple[int, int, list[str]]:
            reply = client.list_workspace(sdk.ListWorkspaceRequest(**query))
            return reply.total_count, reply.count, [one.name for one in reply.workspaces]

        assert listed(name="list-") == (3, 3, ["list-c", "list-b", "list-a"])
        assert listed(name="LIST-", order="asc", limit=2, offset=1) == (3, 1, ["list-c"])
        assert listed(name="list-", sort_by="update_time", order="asc", filter_accessible=True)[
            2
        ] == ["list-a", "list-b", "list-c"]
        assert listed(enterprise_project_id="none") == (0, 0, [])
        assert "default" in listed()[2]

    def test_one_is_changed_and_deleted(self, client: sdk.ModelArtsClient) -> None:
        made = create(client, name="to-change")
        change = sdk.UpdateWorkspaceReq(
            name="changed", auth_type="INTERNAL",
            grants=[sdk.ViewWorkspaceResponseGrants(user_name="eve")],
        )  # fmt: skip

        reply = client.update_workspace(
            sdk.UpdateWorkspaceRequest(workspace_id=made.id, body=change)
        )

        assert reply.workspace_id == made.id
        shown = client.show_workspace(sdk.ShowWorkspaceRequest(workspace_id=made.id))
        assert (shown.name, shown.auth_type, len(shown.grants)) == ("changed", "INTERNAL", 1)
        deleted = client.delete_workspace(sdk.DeleteWorkspaceRequest(workspace_id=made.id))
        assert deleted.workspace_id == made.id
        refused(
            lambda: client.show_workspace(sdk.ShowWorkspaceRequest(workspace_id=made.id)),
            400,
            "7005",
        )

    def test_refusals_reach_the_caller_in_words(
        self, client: sdk.ModelArtsClient, remote: Remote
    ) -> None:
        create(client, name="taken")
        full = create(client, name="full")
        remote.project.post(
            "/training-jobs",
            job_name="inside",
            workspace_id=full.id,
            config={"create_version": False},
        )

        assert "4 to 64" in refused(lambda: create(client, name="abc"), 400, "0104")
        assert "'taken'" in refused(lambda: create(client, name="taken"), 400, "0103")
        refused(lambda: create(client, name="default"), 400, "0103")
        refused(lambda: create(client, name="strange", auth_type="ODD"), 400, "0104")
        default = sdk.DeleteWorkspaceRequest(workspace_id="0")
        refused(lambda: client.delete_workspace(default), 400, "3566")
        change = sdk.UpdateWorkspaceRequest(
            workspace_id="0", body=sdk.UpdateWorkspaceReq(description="x")
        )
        refused(lambda: client.update_workspace(change), 400, "3566")
        occupied = sdk.DeleteWorkspaceRequest(workspace_id=full.id)
        message = refused(lambda: client.delete_workspace(occupied), 400, "7004")
        assert "1 training job(s)" in message
        for name in ("a/b", "ü +~*%", "名"):
            show = partial(client.show_workspace, sdk.ShowWorkspaceRequest(workspace_id=name))
            assert repr(name) in refused(show, 400, "7005")


class TestQuotas:
    def put(self, client: sdk.ModelArtsClient, workspace_id: str, **quotas: int) -> Any:
        given = [
            sdk.UpdateWorkspaceQuotasReqQuotas(resource=name.replace("_", "."), quota=quota)
            for name, quota in quotas.items()
        ]
        body = sdk.UpdateWorkspaceQuotasReq(quotas=given)
        return client.update_workspace_quotas(
            sdk.UpdateWorkspaceQuotasRequest(workspace_id=workspace_id, body=body)
        )

    def test_they_are_set_shown_and_held(self, client: sdk.ModelArtsClient, remote: Remote) -> None:
        made = create(client, name="limited")
        show = sdk.ShowWorkspaceQuotasRequest(workspace_id=made.id)
        assert {quota.used_quota for quota in client.show_workspace_quotas(show).quotas} == {None}

        changed = self.put(client, made.id, training_jobs=1, training_memory=-1)

        assert [(quota.resource, quota.quota) for quota in changed.quotas] == [
            ("training.jobs", 1),
            ("training.memory", -1),
        ]
        config = remote.put_code("limited", "import time; time.sleep(600)")
        body = {"job_name": "first", "workspace_id": made.id, "config": config}
        assert remote.project.post("/training-jobs", **body)["version_id"]
        reply = remote.project.http.post(
            f"{remote.project.v1}/training-jobs", json=body | {"job_name": "second"}
        )
        assert (reply.status_code, reply.json()["error_code"]) == (400, "ModelArts.0118")
        shown = {quota.resource: quota for quota in client.show_workspace_quotas(show).quotas}
        jobs = shown["training.jobs"]
        assert (jobs.quota, jobs.used_quota, jobs.min_quota) == (1, 1, -1)
        assert jobs.max_quota > 1
        assert isinstance(jobs.update_time, int)
        assert jobs.name_en
        assert jobs.unit_cn
        assert shown["training.memory"].used_quota is None

    def test_what_makes_no_sense_is_told(self, client: sdk.ModelArtsClient) -> None:
        refused(lambda: self.put(client, "0", training_tpus=1), 400, "0104")
        refused(lambda: self.put(client, "0", training_jobs=-2), 400, "0104")
        refused(lambda: self.put(client, "f" * 32, training_jobs=1), 400, "7005")


class TestPermissionCheck:
    def ask(self, client: sdk.ModelArtsClient, workspace_id: str, *actions: str) -> Any:
        body = sdk.ValidateAuthorizationRequestBody(
            requests=[
                sdk.AuthRequests(
                    action_id=f"id-{n}",
                    action=action,
                    resource="any",
                    service_attributes={"a": "b"},
                )
                for n, action in enumerate(actions)
            ]
        )
        request = sdk.ValidateAuthorizationRequest(workspace_id=workspace_id, body=body)
        return client.validate_authorization(request)

    @pytest.fixture(scope="class")
    @classmethod
    def reader(cls, remote: Remote) -> sdk.ModelArtsClient:
        where = ("--data", remote.data)
        assert run_muster("user", "create", "rea", "--role", "reader", *where).returncode == 0
        key = json.loads(run_muster("key", "create", "rea", *where).stdout)
        return client_of(remote, ak=key["access_key"], sk=key["secret_key"])

    def test_an_administrator_may(self, client: sdk.ModelArtsClient) -> None:
        results = self.ask(client, "0", "job:write", "quota:manage").results

        assert [(r.action, r.verdict, r.action_id, r.resource) for r in results] == [
            ("job:write", "allow", "id-0", "any"),
            ("quota:manage", "allow", "id-1", "any"),
        ]
        assert [result.cause for result in results] == [[], []]

    def test_a_reader_may_not_and_is_told_why(self, reader: sdk.ModelArtsClient) -> None:
        read, write = self.ask(reader, "0", "job:read", "job:write").results

        assert (read.verdict, write.verdict) == ("allow", "deny")
        [cause] = write.cause
        assert cause.policy_name == "role reader"
        [condition] = cause.condition
        assert (condition.key, condition.operator) == ("role", "StringEquals")
        assert condition.value == ["administrator", "developer"]

    def test_a_reader_is_refused_what_changes_things(self, reader: sdk.ModelArtsClient) -> None:
        message = refused(lambda: create(reader, name="mine-own"), 403, "0108")

        assert "is reader in this project and lacks the permission workspace:manage" in message

    def test_a_private_workspace_is_unknown_to_a_reader(
        self, client: sdk.ModelArtsClient, reader: sdk.ModelArtsClient
    ) -> None:
        made = create(client, name="private-one", auth_type="PRIVATE")

        request = sdk.ShowWorkspaceRequest(workspace_id=made.id)
        refused(lambda: reader.show_workspace(request), 400, "7005")
        [result] = self.ask(reader, made.id, "job:read").results
        assert (result.verdict, result.cause[0].policy_name) == ("deny", "workspace access")

    def test_an_unknown_action_is_told(self, client: sdk.ModelArtsClient) -> None:
        assert "job:fly" in refused(lambda: self.ask(client, "0", "job:fly"), 400, "0104")


class TestAuthorizations:
    def add(self, client: sdk.ModelArtsClient, **fields: Any) -> Any:
        body = sdk.AuthorizationRequest(**fields)
        return client.create_authorization(sdk.CreateAuthorizationRequest(body=body))

    def test_they_are_kept_listed_and_deleted(self, client: sdk.ModelArtsClient) -> None:
        self.add(client, user_id="all-users", type="agency", content="modelarts_agency")
        self.add(
            client, user_id="u-7", user_name="ann", user_type="iam", type="credential",
            content="AK7", secret_key="k" * 40,
        )  # fmt: skip

        request = sdk.GetAuthorizationsRequest(
            sort_by="create_time", order="ASC", limit=10, offset=0
        )
        listed = client.get_authorizations(request)

        assert listed.total_count == 2
        assert [(one.user_id, one.type, one.content) for one in listed.auth] == [
            ("all-users", "agency", "modelarts_agency"),
            ("u-7", "credential", "AK7"),
        ]
        assert {one.secret_key for one in listed.auth} == {None}
        assert isinstance(listed.auth[0].create_time, int)
        again = {"user_id": "u-7", "type": "agency", "content": "x"}
        refused(lambda: self.add(client, **again), 400, "0424")
        client.delete_authorizations(sdk.DeleteAuthorizationsRequest(user_id="u-7"))
        gone = sdk.DeleteAuthorizationsRequest(user_id="u-7")
        refused(lambda: client.delete_authorizations(gone), 400, "0429")
        client.delete_authorizations(sdk.DeleteAuthorizationsRequest(user_id="all"))
        assert client.get_authorizations(sdk.GetAuthorizationsRequest()).total_count == 0


def test_temporary_credentials_sign_for_the_sdk(remote: Remote) -> None:
    project = remote.project
    token = project.http.headers["X-Auth-Token"]
    given = {"id": token, "duration_seconds": 21_600}
    body = {"auth": {"identity": {"methods": ["token"], "token": given}}}
    reply = httpx.post(f"{project.url}/v3.0/OS-CREDENTIAL/securitytokens", json=body)
    made = reply.json()["credential"]
    credentials = BasicCredentials(ak=made["access"], sk=made["secret"], project_id=project.id)

    def client(security_token: str) -> sdk.ModelArtsClient:
        signing = credentials.with_security_token(security_token)
        builder = sdk.ModelArtsClient.new_builder().with_credentials(signing)
        return builder.with_endpoint(project.url).build()

    assert client(made["securitytoken"]).list_workspace(sdk.ListWorkspaceRequest()).count >= 1
    foreign = client("somebody-elses")
    refused(lambda: foreign.list_workspace(sdk.ListWorkspaceRequest()), 401, "0203")
