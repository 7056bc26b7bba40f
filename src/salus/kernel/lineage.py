"""Lineage: what was made from what. Nodes are named as ledger subjects are (`run:run_01…`, `model_version:m@1.0.0`)."""

from __future__ import annotations

import sqlalchemy as sa

from salus.kernel.identity import Actor
from salus.kernel.sql import Ms, Name, Reader, Transaction, metadata
from salus.kernel.structs import Record

_NODE = sa.String(512)

edges = sa.Table(
    "lineage",
    metadata,
    sa.Column("workspace", Name, primary_key=True),
    sa.Column("upstream", _NODE, primary_key=True),
    sa.Column("downstream", _NODE, primary_key=True),
    sa.Column("relation", sa.String(64), primary_key=True),
    sa.Column("at_ms", Ms, nullable=False),
    sa.Index("ix_lineage_downstream", "workspace", "downstream"),
)


class Edge(Record):
    """`downstream` was made from, or by, `upstream`."""

    upstream: str
    downstream: str
    relation: str
    at_ms: int


class Graph(Record):
    """The part of the lineage around `node`."""

    node: str
    nodes: list[str]
    edges: list[Edge]


def link(tx: Transaction, actor: Actor, *, upstream: str, downstream: str, relation: str) -> None:
    """Records that `downstream` stands in `relation` to `upstream`; a second time changes nothing."""
    key = {
        "workspace": actor.workspace,
        "upstream": upstream,
        "downstream": downstream,
        "relation": relation,
    }
    known = sa.select(edges.c.at_ms).where(*(edges.c[name] == value for name, value in key.items()))
    if tx.value(known) is None:
        tx.execute(sa.insert(edges).values(**key, at_ms=tx.now_ms))


def graph(reader: Reader, actor: Actor, node: str, depth: int = 4) -> Graph:
    """All that `node` came from and all that came from it, `depth` links away at most."""
    found: dict[tuple[str, str, str], Edge] = {}
    for near, far in (("downstream", "upstream"), ("upstream", "downstream")):
        frontier = {node}
        seen = {node}
        for _ in range(depth):
            if not frontier:
                break
            query = sa.select(edges).where(edges.c.workspace == actor.workspace, edges.c[near].in_(sorted(frontier)))
            frontier = set()
            for edge in reader.records(Edge, query):
                found[edge.upstream, edge.downstream, edge.relation] = edge
                other: str = getattr(edge, far)
                if other not in seen:
                    seen.add(other)
                    frontier.add(other)
    nodes = {node} | {edge.upstream for edge in found.values()} | {edge.downstream for edge in found.values()}
    return Graph(node=node, nodes=sorted(nodes), edges=list(found.values()))
