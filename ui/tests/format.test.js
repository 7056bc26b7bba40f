import assert from "node:assert/strict";
import { test } from "node:test";
import { ago, brief, bytes, count, duration, interval, moment, number, parameter, percent, quantity, span, timeTicks, words } from "../src/format.ts";

test("numbers keep about four significant digits", () => {
  assert.equal(number(0.41234), "0.4123");
  assert.equal(number(12.3456), "12.35");
  assert.equal(number(336776), "336,776");
  assert.equal(number(-1.5), "\u22121.500");
  assert.equal(number(0), "0");
  assert.equal(number(3.1e-7), "3.10e\u22127");
  assert.equal(number(Number.NaN), "\u2014");
  assert.equal(number(null), "\u2014");
});

test("an estimate reads as number, interval and n", () => {
  assert.equal(`${quantity(0.412)} ${interval(0.405, 0.419)} n=${count(1204)}`, "0.412 [0.405, 0.419] n=1,204");
  assert.equal(interval(0.1, null), "");
  assert.equal(interval(0.01, 0.02, "ratio"), "[1 %, 2 %]");
  assert.equal(interval(0.1, 0.2, "PSI"), "[0.100, 0.200]");
});

test("ratios are shown as per cent", () => {
  assert.equal(percent(0.053), "5.3 %");
  assert.equal(percent(1), "100 %");
  assert.equal(percent(0.0004), "0.04 %");
});

test("durations go from microseconds to days", () => {
  assert.equal(quantity(412, "us"), "0.41 ms");
  assert.equal(duration(0), "0 ms");
  assert.equal(duration(12_000), "12 s");
  assert.equal(duration(185_000), "3 min 5 s");
  assert.equal(duration(7_200_000), "2 h");
  assert.equal(duration(187_200_000), "2 d 4 h");
  assert.equal(duration(-12_000), "\u221212 s");
});

test("sizes", () => {
  assert.equal(bytes(999), "999 B");
  assert.equal(bytes(3_100_000), "3.1 MB");
});

test("moments are in UTC", () => {
  assert.equal(moment(1_362_319_500_000), "3 Mar 2013 14:05");
  assert.equal(span(1_362_268_800_000, 1_362_787_200_000), "3 Mar 2013 \u2013 9 Mar 2013");
  const now = 1_362_319_500_000;
  assert.equal(ago(now - 1_000, now), "just now");
  assert.equal(ago(now - 185_000, now), "3 min ago");
  assert.equal(ago(now - 90 * 86_400_000, now), "3 Dec 2012");
});

test("a time axis names the larger unit where it changes", () => {
  const day = 86_400_000;
  assert.deepEqual(timeTicks([1_356_998_400_000, 1_359_676_800_000], 31 * day), ["Jan\n2013", "Feb"]);
  assert.deepEqual(timeTicks([1_362_319_500_000, 1_362_323_100_000], 3_600_000), ["14:05\n3 Mar", "15:05"]);
});

test("names are made readable", () => {
  assert.equal(words("DriftRaised"), "Drift raised");
  assert.equal(words("rolled_back"), "Rolled back");
  assert.equal(brief("run_01k9abcdefghjkmnpqrstvwxyz"), "run_\u2026tvwxyz");
  assert.equal(brief("flight-delay"), "flight-delay");
});

test("parameters read as what they mean; what rounds to nothing has no sign", () => {
  assert.equal(parameter("until_ms", 1_387_065_600_000), "15 Dec 2013 00:00");
  assert.equal(parameter("excluded", [[1_365_552_000_000, 1_365_897_600_000]]), "10 Apr 2013 \u2013 14 Apr 2013");
  assert.equal(parameter("excluded", []), "none");
  assert.equal(parameter("depth", 3), "3");
  assert.equal(number(-0.0004, 3), "0.000");
});
