import assert from "node:assert/strict";
import { test } from "node:test";
import { clusters, columns, thin } from "../src/charts/series.ts";
import { match } from "../src/router.ts";
import { href, label, mentions, parse } from "../src/subjects.ts";

const routes = [
  { pattern: "/", page: "ward" },
  { pattern: "/models/:name", page: "model" },
  { pattern: "/models/:name/versions/:version", page: "version" },
];

test("an address names a page and its parameters", () => {
  assert.deepEqual(match(routes, "/"), { page: "ward", params: {} });
  assert.deepEqual(match(routes, "/models/flight%2Fdelay/"), { page: "model", params: { name: "flight/delay" } });
  assert.deepEqual(match(routes, "/models/a/versions/1.0.0"), { page: "version", params: { name: "a", version: "1.0.0" } });
  assert.equal(match(routes, "/models"), null);
  assert.equal(match(routes, "/models/%E0%A4%A"), null);
});

test("a node has words and a page", () => {
  assert.deepEqual(parse("model_version:flight-delay@1.0.0"), { kind: "model_version", name: "flight-delay", version: "1.0.0" });
  assert.equal(href("model_version:flight-delay@1.0.0"), "/models/flight-delay/versions/1.0.0");
  assert.equal(href("dataset_version:flights@3"), "/datasets/flights/versions/3");
  assert.equal(href("token:tok_1"), null);
  assert.equal(label("model_version:flight-delay@1.0.0"), "flight-delay 1.0.0");
});

test("series on different x share one axis; a gap stays a gap", () => {
  const [xs, y1, low1, , y2] = columns([
    { label: "a", x: [1, 3], y: [10, Number.NaN], low: [9, 29] },
    { label: "b", x: [2], y: [5] },
  ]);
  assert.deepEqual(xs, [1, 2, 3]);
  assert.deepEqual(y1, [10, null, null]);
  assert.deepEqual(low1, [9, null, 29]);
  assert.deepEqual(y2, [null, 5, null]);
});

const mark = (from, to = from) => ({ from, to, label: "", tone: "sick" });

test("marks that would touch stand together", () => {
  const found = clusters([mark(30), mark(0), mark(10)], (at) => at, 100, 20);
  assert.deepEqual(found.map((one) => one.marks.length), [2, 1]);
});

test("a mark is cut where the chart ends, and left out beyond", () => {
  const found = clusters([mark(-50, -1), mark(-10, 30), mark(70, 400), mark(99), mark(101)], (at) => at, 100, 20);
  assert.deepEqual(found.map(({ left, width, marks }) => [left, width, marks.length]), [[0, 30, 1], [70, 30, 2]]);
});

test("a long table keeps its ends", () => {
  assert.deepEqual(thin(3, 10), [0, 1, 2]);
  const some = thin(1_000, 5);
  assert.equal(some.length, 5);
  assert.equal(some[0], 0);
  assert.equal(some.at(-1), 999);
});

test("identifiers in a text become nodes", () => {
  const id = "plr_01m7xzmcsc3fnm8n1kja651kbd";
  assert.deepEqual(mentions(`a check-up: ${id} trains`), [{ text: "a check-up: ", node: null }, { text: id, node: `pipeline_run:${id}` }, { text: " trains", node: null }]);
  assert.deepEqual(mentions("runs well"), [{ text: "runs well", node: null }]);
  assert.equal(href("retraining:rtr_1"), "/retraining/rtr_1");
});
