"""Risky acts ask a Gate; whoever governs registers the answers at wiring. No answer registered: allowed.

A slice that promotes, rolls out or deletes asks `gate.ask(...)`; governance, approvals and freeze windows answer
without the slice knowing them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from salus.kernel.errors import Denied
from salus.kernel.identity import Actor
from salus.kernel.structs import Record


class Question(Record):
    """May `actor` do `action` (as in `models.promote`) to `subject`, given `evidence`?"""

    actor: Actor
    action: str
    subject: str
    evidence: dict[str, Any] = {}


class Answer(Record):
    """One rule's answer; `by` names the rule. An answer that is stored says why a thing was allowed."""

    allowed: bool
    by: str
    reason: str = ""


Rule = Callable[[Question], Answer | None]


class Gate:
    """The rules, by action. A rule returns None when the question is none of its business."""

    def __init__(self) -> None:
        self._rules: dict[str, list[Rule]] = {}

    def register(self, action: str, rule: Rule) -> None:
        """From now on `rule` is asked about `action`."""
        self._rules.setdefault(action, []).append(rule)

    def ask(self, question: Question) -> list[Answer]:
        """Every rule's answer.

        Raises:
            Denied: one of them says no; `details` holds all answers.
        """
        answers = [answer for rule in self._rules.get(question.action, []) if (answer := rule(question)) is not None]
        refused = [answer for answer in answers if not answer.allowed]
        if refused:
            raise Denied(
                f"{question.action} of {question.subject} is refused: "
                + "; ".join(f"{answer.by}: {answer.reason}" for answer in refused),
                remedy="Fix what the rule asks for, then ask again.",
                details=[{"by": a.by, "allowed": a.allowed, "reason": a.reason} for a in answers],
            )
        return answers
