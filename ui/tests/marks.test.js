import assert from "node:assert/strict";
import { test } from "node:test";
import { lanesOf, shadesOf } from "../src/marks.ts";

const window = (start_ms, version) => ({ start_ms, end_ms: start_ms + 10, version });
const vitals = (more) => ({ watch: { model: "m" }, windows: [window(0, "1.0.0"), window(10, "1.0.0"), window(20, "1.1.0"), window(30, "1.0.0")], shadows: {}, alerts: [], annotations: [], ...more });
const lane = (found, name) => found.find((one) => one.name === name)?.marks;

test("who answered stands in one line without gaps", () => {
  const marks = lane(lanesOf(vitals()), "Version");
  assert.deepEqual(marks.map(({ text, from, to }) => [text, from, to]), [["1.0.0", 0, 20], ["1.1.0", 20, 30], ["1.0.0", 30, 40]]);
  assert.deepEqual(shadesOf(lanesOf(vitals())).map(({ from, to }) => [from, to]), [[20, 20], [30, 30]]);
});

test("a beginning and its end are one mark; what goes on reaches the last window", () => {
  const note = (event_ms, kind, subject, text = "") => ({ event_ms, kind, subject, text });
  const found = lanesOf(vitals({ annotations: [
    note(5, "RetrainingStarted", "retraining:a"),
    note(8, "RetrainingEnded", "retraining:a", "the retraining ended as promoted: better"),
    note(12, "RetrainingStarted", "retraining:b"),
    note(15, "RetrainingDeclined", "retraining:c", "no retraining"),
    note(6, "RolloutStarted", "rollout:r"),
    note(9, "RolledBack", "rollout:r"),
  ] }));
  assert.deepEqual(lane(found, "Training").map(({ from, to, icon, href }) => [from, to, icon, href]), [[5, 8, "healthy", "/retraining/a"], [12, 40, "running", "/retraining/b"], [15, 15, "unknown", "/retraining/c"]]);
  assert.deepEqual(lane(found, "Rollouts").map(({ from, to, tone }) => [from, to, tone]), [[6, 9, "sick"]]);
});

test("an alarm lasts from the change to its end; a suspicion is none", () => {
  const alert = (more) => ({ id: "alr_1", cause: "changed_relationship", title: "t", state: "resolved", since_event_ms: 3, resolved_event_ms: 25, resolved_reason: "good again", ...more });
  const found = lanesOf(vitals({ alerts: [alert(), alert({ state: "firing", resolved_event_ms: null }), alert({ state: "pending" })] }));
  assert.deepEqual(lane(found, "Alarms").map(({ from, to }) => [from, to]), [[3, 25], [3, 40]]);
});
