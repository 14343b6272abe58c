"""Experiments that training jobs stand in."""

from muster.api import experiments
from muster.api.errors import Envelope
from muster.api.routes.table import table
from muster.api.routing import Route, Within
from muster.api.services import Services
from muster.domain.permission import Permission
from muster.wire import experiments as shapes
from muster.wire.training_v2 import TrainingNameCheck

_EXPERIMENTS = "/v2/{project_id}/training-experiments"
_EXPERIMENT = f"{_EXPERIMENTS}/{{experiment_id}}"


def routes(services: Services) -> list[Route]:
    modern = table(services, Envelope.MODERN)
    return [
        modern(
            "POST", _EXPERIMENTS, experiments.create_experiment,
            "Make an experiment for training jobs to stand in",
            body=shapes.ExperimentRequest, reply=shapes.ExperimentView, status=201,
            needs=Permission.JOB_WRITE, within=Within.BODY,
        ),
        modern(
            "GET", _EXPERIMENTS, experiments.list_experiments,
            "List experiments, and how many jobs stand in each",
            query=shapes.ExperimentsQuery, reply=shapes.ExperimentViews,
            needs=Permission.JOB_READ, within=Within.QUERY,
        ),
        modern(
            "GET", _EXPERIMENT, experiments.show_experiment, "Show an experiment",
            reply=shapes.ExperimentView,
            needs=Permission.JOB_READ, within=Within.EXPERIMENT,
        ),
        modern(
            "PUT", _EXPERIMENT, experiments.update_experiment,
            "Change the name or description of an experiment",
            body=shapes.ExperimentUpdate, reply=shapes.ChangedExperiment,
            needs=Permission.JOB_WRITE, within=Within.EXPERIMENT,
        ),
        modern(
            "DELETE", _EXPERIMENT, experiments.delete_experiment,
            "Delete an experiment; its jobs stay, in none", status=202,
            needs=Permission.JOB_WRITE, within=Within.EXPERIMENT,
        ),
        modern(
            "GET", "/v2/{project_id}/training-experiment-names", experiments.check_name,
            "Whether the name of an experiment is taken",
            query=shapes.ExperimentNameQuery, reply=TrainingNameCheck,
            needs=Permission.JOB_READ, within=Within.QUERY,
        ),
    ]  # fmt: skip
