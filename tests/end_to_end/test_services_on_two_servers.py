"""Inference services behind two servers that share a PostgreSQL."""

import pytest

from tests.end_to_end.inference import Inference
from tests.end_to_end.server import processes_below, wait_for
from tests.end_to_end.test_servers import Site, postgres, site
from tests.end_to_end.test_services import answered, load

__all__ = ["postgres", "site"]  # fixtures

pytestmark = pytest.mark.timeout(300)


def test_either_server_passes_requests_on_and_an_update_refuses_none(site: Site) -> None:
    site.add_server()
    site.add_server()
    leader = site.leader()
    leading = Inference(remote=site.remotes[leader.pid])
    following = Inference(remote=site.other(leader))
    part = leading.part(leading.echo(), instance_count=2)
    service_id = following.deploy("shared", part | {"envs": {"WORD": "old"}})
    leading.wait(service_id, "running")
    wait_for(lambda: following.ask(service_id).status_code == 200 or None)

    with load(leading, service_id, clients=2) as one, load(following, service_id, clients=2) as two:
        wait_for(lambda: (answered(one, "old") > 20 and answered(two, "old") > 20) or None)
        following.change(service_id, config=[part | {"envs": {"WORD": "new"}}])
        wait_for(lambda: (answered(one, "new") > 20 and answered(two, "new") > 20) or None)
        leading.wait(service_id, "running")

    assert [refusal for asking in (*one, *two) for refusal in asking.refused] == []
    counted = sum(sum(asking.answers.values()) for asking in (*one, *two)) + 1
    wait_for(lambda: leading.show(service_id)["invocation_times"] >= counted or None)
    leading.delete_all()
    wait_for(lambda: not processes_below(site.data / "jobs") or None)


def test_a_service_is_kept_by_the_server_that_takes_over(site: Site) -> None:
    site.add_server()
    site.add_server()
    leader = site.leader()
    inference = Inference(remote=site.other(leader))
    service_id = inference.deploy("inherited", inference.part(inference.echo()))
    inference.wait(service_id, "running")

    leader.kill()

    assert inference.ask(service_id).status_code == 200
    part = {"instance_count": 2}
    inference.change(service_id, config=[part])
    wait_for(lambda: inference.show(service_id)["running_instance_count"] == 2 or None, 60)
    inference.delete_all()
    wait_for(lambda: not processes_below(site.data / "jobs") or None)
