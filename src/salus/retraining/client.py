"""Policies and retrainings in the SDK: `client.retraining.put_policy("flight-delay", pipeline="train_delay")`."""

from __future__ import annotations

from typing import Any

import msgspec

from salus.kernel.structs import invalid
from salus.retraining.model import Policy, PutPolicy, Retrain, Retraining
from salus.sdk.session import Session, path
from salus.web.pagination import Page


class RetrainingClient:
    """What a program can do with retraining policies and what comes of them."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def put_policy(self, model: str, policy: PutPolicy | None = None, **fields: Any) -> Policy:
        """Sets the model's policy: a `PutPolicy`, or its fields (`pipeline="train_delay", checkup_s=None`).

        Raises:
            InvalidInput: a field is unknown or out of its range; `path` names it.
        """
        try:
            body = policy or msgspec.convert(fields, PutPolicy)
        except msgspec.ValidationError as error:
            raise invalid(error) from error
        return self._session.call("PUT", path("policies", model), body=body, expect=Policy)

    def policies(self) -> list[Policy]:
        """All policies by model."""
        return self._session.call("GET", path("policies"), expect=list[Policy])

    def policy(self, model: str) -> Policy:
        """The model's policy. Raises `NotFound`."""
        return self._session.call("GET", path("policies", model), expect=Policy)

    def retrain(self, model: str, reason: str = "") -> Retraining:
        """Retrains now; the gate and the rollout are the policy's."""
        body = Retrain(reason=reason)
        return self._session.call("POST", path("policies", model, "retrain"), body=body, expect=Retraining, once=True)

    def retrainings(self, model: str | None = None, limit: int = 100) -> list[Retraining]:
        """Retrainings, newest first, with every decision."""
        query = {"model": model, "limit": limit}
        return self._session.call("GET", path("retrainings"), query=query, expect=Page[Retraining]).items

    def retraining(self, retraining_id: str) -> Retraining:
        """One retraining."""
        return self._session.call("GET", path("retrainings", retraining_id), expect=Retraining)
