import assert from "node:assert/strict";
import { test } from "node:test";
import { family } from "../src/ancestry.ts";

const edge = (upstream, relation, downstream) => ({ upstream, relation, downstream, at_ms: 0 });
const lineage = (node, edges) => ({ node, nodes: [], edges });
const names = ({ kin }) => kin.map((one) => one.nodes.join("+")).sort();

test("a rival's own story is not told, nor what else an endpoint served", () => {
  const found = family(lineage("model_version:m@2", [
    edge("dataset_version:d@1", "trained_on", "model_version:m@2"),
    edge("model_version:m@3", "challenged", "model_version:m@2"),
    edge("run:of-3", "logged_by", "model_version:m@3"),
    edge("model_version:m@2", "challenged", "model_version:m@1"),
    edge("model_version:m@1", "triggered", "alert:a"),
    edge("model_version:m@2", "deployed_as", "endpoint:e"),
    edge("endpoint:e", "triggered", "alert:b"),
  ]));
  assert.deepEqual(names(found), ["dataset_version:d@1", "endpoint:e", "model_version:m@1", "model_version:m@2", "model_version:m@3"]);
  assert.equal(found.edges.length, 4);
});

test("likes of a kind with the same neighbours become one box", () => {
  const rivals = [3, 4, 5, 6].map((version) => edge(`model_version:m@${version}`, "challenged", "model_version:m@2"));
  const found = family(lineage("model_version:m@2", [...rivals, edge("run:r", "logged_by", "model_version:m@2")]));
  assert.deepEqual(found.kin.map((one) => one.nodes.length).sort(), [1, 1, 4]);
  assert.equal(found.edges.length, 2);
  assert.equal(family(lineage("model_version:m@2", rivals.slice(1))).kin.length, 4);
});

test("a circle comes to an end", () => {
  const found = family(lineage("alert:a", [edge("alert:a", "triggered", "retraining:r"), edge("retraining:r", "triggered", "alert:a")]));
  assert.equal(found.kin.length, 2);
});
