"""Who acts: principals, roles, permissions and the workspace they act in."""

from __future__ import annotations

from typing import Literal

from salus.kernel.errors import Denied
from salus.kernel.structs import Record

Role = Literal["viewer", "editor", "operator", "admin"]

_RANK: dict[str, int] = {"viewer": 0, "editor": 1, "operator": 2, "admin": 3}

Permission = Literal["read", "write", "operate", "admin", "public"]
"""`read`: look. `write`: add data, runs, models. `operate`: change what production does. `admin`: people and keys.
`public`: no identity needed (health, the page's own files)."""

_NEEDS: dict[str, str] = {"read": "viewer", "write": "editor", "operate": "operator", "admin": "admin"}


class Actor(Record):
    """Somebody or something that acts in one workspace.

    >>> Actor(principal="ann", role="viewer").may("write")
    False
    """

    principal: str
    role: Role = "viewer"
    workspace: str = "default"

    def may(self, permission: Permission) -> bool:
        """Whether the role carries `permission`."""
        return permission == "public" or _RANK[self.role] >= _RANK[_NEEDS[permission]]

    def require(self, permission: Permission) -> None:
        """Raises `Denied` unless the role carries `permission`."""
        if not self.may(permission):
            raise Denied(
                f"{self.principal} has the role {self.role}, this needs {_NEEDS[permission]}",
                remedy="Ask an admin for the role, or use a token that has it.",
            )


def system(name: str, workspace: str = "default") -> Actor:
    """Salus itself acting, as `salus/<name>`: what the audit trail shows for automatic decisions."""
    return Actor(principal=f"salus/{name}", role="admin", workspace=workspace)
