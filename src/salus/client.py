"""One client for everything a server offers: `salus.connect().models.list()`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import msgspec

from salus.data.client import DataClient
from salus.features.client import FeaturesClient
from salus.kernel.settings import load_settings
from salus.monitoring.client import MonitoringClient
from salus.pipelines.client import PipelinesClient
from salus.registry.client import RegistryClient
from salus.retraining.client import RetrainingClient
from salus.sdk.session import Session
from salus.serving.client import EndpointsClient, PredictClient, Prediction
from salus.serving.model.labels import Label, LabelsAccepted
from salus.tracking.client import ActiveRun, TrackingClient


class Client:
    """A line to one server and workspace; each slice has its own verbs."""

    def __init__(self, session: Session) -> None:
        self.session = session

    @cached_property
    def tracking(self) -> TrackingClient:
        """Experiments and runs."""
        return TrackingClient(self.session)

    @cached_property
    def data(self) -> DataClient:
        """Datasets and their versions."""
        return DataClient(self.session)

    @cached_property
    def features(self) -> FeaturesClient:
        """Feature views, history, online values."""
        return FeaturesClient(self.session)

    @cached_property
    def models(self) -> RegistryClient:
        """Registered models and their versions."""
        return RegistryClient(self.session)

    @cached_property
    def pipelines(self) -> PipelinesClient:
        """Pipelines and their runs."""
        return PipelinesClient(self.session)

    @cached_property
    def endpoints(self) -> EndpointsClient:
        """Endpoints, rollouts, predictions, labels."""
        return EndpointsClient(self.session)

    @cached_property
    def predicting(self) -> PredictClient:
        """The line to the data plane."""
        return PredictClient(self.session)

    @cached_property
    def monitoring(self) -> MonitoringClient:
        """Vital signs, alerts, diagnoses."""
        return MonitoringClient(self.session)

    @cached_property
    def retraining(self) -> RetrainingClient:
        """Policies and what came of them."""
        return RetrainingClient(self.session)


def connect(url: str = "", *, workspace: str = "", token: str = "") -> Client:
    """A client for the server at `url` (default: `SALUS_URL`, else http://127.0.0.1:7070)."""
    given = {"url": url, "workspace": workspace, "token": token}
    changes = {name: value for name, value in given.items() if value}
    return Client(Session(msgspec.structs.replace(load_settings(), **changes)))


_default: Client | None = None


def default_client() -> Client:
    """The client that `salus.run` and its like use: made at the first call, from the environment."""
    global _default
    if _default is None:
        _default = connect()
    return _default


def run(experiment: str = "default", **options: Any) -> ActiveRun:
    """A tracked run, for use in a `with`; see `salus.tracking.client.TrackingClient.start`."""
    return default_client().tracking.start(experiment, **options)


def predict(endpoint: str, rows: Sequence[Mapping[str, Any]], **options: Any) -> list[Prediction]:
    """Asks an endpoint; see `salus.serving.client.PredictClient.predict`."""
    return default_client().predicting.predict(endpoint, rows, **options)


def label(endpoint: str, labels: Sequence[Label]) -> LabelsAccepted:
    """Tells an endpoint what came true; see `salus.serving.client.EndpointsClient.label`."""
    return default_client().endpoints.label(endpoint, labels)
