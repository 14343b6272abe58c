"""Further calls over a long history."""

import json

from bench.dataset import open_dataset
from bench.figure import Figure
from bench.load import raw_request
from bench.ratio import rates
from bench.run import Run
from bench.servers import empty_server

ROUNDS = 5
REQUESTS = 1_000
AT_LEAST = 15.0


def measure(run: Run) -> list[Figure]:
    dataset = open_dataset(run, run.largest)
    rounds, requests = run.rounds(ROUNDS), run.requests(REQUESTS)
    figures = []
    with dataset.server() as muster, empty_server() as empty:
        base = f"/v2/{muster.project_id}"
        with muster.client() as client:
            search = client.post(f"{base}/training-job-searches", json={"limit": 10})
            some_id = search.raise_for_status().json()["items"][-1]["metadata"]["id"]
        token = {"X-Auth-Token": muster.token}
        failed = {"limit": 10, "filters": [{"key": "phase", "operator": "in", "value": ["Failed"]}]}
        searches = ("POST", muster.port, f"{base}/training-job-searches", token)
        calls = {
            "list pools": raw_request("GET", muster.port, f"{base}/pools", token),
            "search of v2 jobs, page of 10": raw_request(*searches, b'{"limit": 10}'),
            "the same by phase": raw_request(*searches, json.dumps(failed).encode()),
            "show a v2 job": raw_request(
                "GET", muster.port, f"{base}/training-jobs/{some_id}", token
            ),
        }
        for what, call in calls.items():
            found = rates(
                run,
                what,
                empty,
                {dataset.size: (muster, [call])},
                rounds=rounds,
                requests=requests,
            )
            rate = found[dataset.size]
            figures.append(
                Figure(
                    what=f"{what}, of the empty handler",
                    rows=dataset.size,
                    value=rate.percent_of_empty,
                    unit="%",
                    how=f"median of {rounds} pairs of {requests:,};"
                    f" {rate.per_cpu_second:,.0f} per CPU-second",
                    at_least=AT_LEAST,
                )
            )
    return figures
