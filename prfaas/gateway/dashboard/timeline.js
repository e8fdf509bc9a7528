// One request's way: what took how long, where, what happened at the same time, and what of it was slow.

import { h, s } from "./dom.js";
import { bytes, percent, seconds, step } from "./format.js";

const KINDS = {
  read: "gateway", tokenise: "gateway", queue: "first", placement: "gateway", "failed try": "lost", prefill: "prefill",
  transfer: "transfer", inject: "inject", recompute: "lost", "first token": "first", answer: "answer", "whole answer": "answer",
};
const WORDS = {
  read: "Read the request", tokenise: "Tokenise", queue: "Queue for a turn", placement: "Placement", "failed try": "Failed try",
  prefill: "Prefill", transfer: "Transfer", inject: "Inject", recompute: "Recompute", "first token": "First token",
  answer: "Answer", "whole answer": "Whole answer",
};
const WIDTH = 300;

export const stageWord = (stage) => WORDS[stage] ?? stage;
const ends = (stage, now) => stage.end_s ?? Math.max(now, stage.begin_s);

/** Seconds in which two stages went on together. */
export const overlap = (one, other) =>
  Math.max(0, Math.min(one.end_s, other.end_s) - Math.max(one.begin_s, other.begin_s));

/** Where the picture ends: long answers are cut, for what comes before them is what one looks for. */
export function horizon(stages, now) {
  const last = Math.max(0.001, ...stages.map((each) => ends(each, now)));
  const first = Math.max(0, ...stages.filter((each) => each.stage !== "answer").map((each) => ends(each, now)));
  return first > 0 && last > 2.5 * first ? first * 1.25 : last;
}

/** What each stage added to the wait, the most first: what went on beside an earlier one cost nothing until that ended. */
export function blame(stages) {
  let covered = 0;
  const added = [];
  for (const stage of stages.filter((each) => each.end_s !== null && each.stage !== "answer")) {
    added.push({ stage, added_s: Math.max(0, stage.end_s - Math.max(stage.begin_s, covered)) });
    covered = Math.max(covered, stage.end_s);
  }
  return added.sort((one, other) => other.added_s - one.added_s);
}

/** The answer to "why was this request slow", in a sentence or two. */
export function verdict(decision, stages) {
  if (decision.outcome === "refused") return `Refused after ${seconds(decision.total_s)}: ${decision.reasons.join("; ")}.`;
  if (decision.outcome === "running") return "It is under way; what its engines do is told when it has ended.";
  const until = decision.first_output_s ?? decision.total_s;
  const [worst] = blame(stages);
  if (!worst || !until) return "";
  const what = decision.is_stream && decision.first_output_s !== null ? "to the first token" : "until the end";
  const where = worst.stage.engine ? ` at ${worst.stage.engine}` : "";
  const parts = [`${seconds(until)} ${what}; most of it, ${seconds(worst.added_s)} (${percent(Math.min(1, worst.added_s / until))}), was ${stageWord(worst.stage.stage).toLowerCase()}${where}.`];
  const prefill = stages.find((each) => each.stage === "prefill");
  const transfer = stages.find((each) => each.stage === "transfer");
  if (prefill && transfer && decision.report?.ok) {
    const together = overlap(prefill, transfer);
    const length = transfer.end_s - transfer.begin_s;
    if (length > 0) parts.push(`${percent(Math.min(1, together / length))} of the transfer went on beside the prefill; ${seconds(Math.max(0, transfer.end_s - prefill.end_s))} of it came after.`);
  }
  if (decision.predicted_first_token_s && decision.first_output_s !== null && decision.is_stream) {
    parts.push(`Predicted were ${seconds(decision.predicted_first_token_s)} from the placement on.`);
  }
  return parts.join(" ");
}

/** The stages as a table with a picture in it; `now` is the request's age while it is under way. */
export function timelineTable(decision, stages, now) {
  const end = horizon(stages, now);
  const x = (at) => (Math.min(at, end) / end) * WIDTH;
  const ticks = [];
  const isNarrow = innerWidth < 640;
  const each = step(end, isNarrow ? 2 : 4);
  for (let at = each; at < end * (isNarrow ? 0.8 : 0.95); at += each) ticks.push(at);
  const both = shadeOf(stages);
  const rows = stages.map((stage) => {
    const until = ends(stage, now);
    const bar = s("svg", { viewBox: `0 0 ${WIDTH} 16`, preserveAspectRatio: "none", "aria-hidden": "true" },
      both && s("rect", { class: "shade", x: x(both[0]), width: Math.max(0, x(both[1]) - x(both[0])), y: -5, height: 26 }),
      ticks.map((at) => s("line", { class: "grid", x1: x(at), x2: x(at), y1: -5, y2: 21, "vector-effect": "non-scaling-stroke" })),
      s("rect", { class: KINDS[stage.stage] ?? "gateway", x: Math.min(WIDTH - 1.5, x(stage.begin_s)), width: Math.max(1.5, x(until) - x(stage.begin_s)), y: 2, height: 12, rx: 1.5 }));
    const where = stage.source ? `${stage.source} → ${stage.engine}` : stage.engine || "gateway";
    return h("tr", {},
      h("th", { scope: "row" }, stageWord(stage.stage), h("div", { class: "quiet narrow" }, where), stage.note && h("div", { class: "quiet" }, stage.note)),
      h("td", { class: "broad" }, where),
      h("td", { class: "num broad" }, seconds(stage.begin_s)),
      h("td", { class: "num" }, stage.end_s === null ? "…" : seconds(until - stage.begin_s)),
      h("td", { class: "track" }, bar));
  });
  const axis = h("div", { class: "axis", "aria-hidden": "true" }, [0, ...ticks].map((at) => {
    const label = h("span", {}, at ? seconds(at) : "0");
    label.style.left = `${(at / end) * 100}%`;
    return label;
  }));
  return h("table", { class: "time" },
    h("caption", { class: "sr" }, "The stages of this request, in the order in which they began"),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Stage"), h("th", { scope: "col", class: "broad" }, "Where"), h("th", { scope: "col", class: "num broad" }, "Begins"),
      h("th", { scope: "col", class: "num" }, "Lasts"), h("th", { scope: "col" }, h("span", { class: "sr" }, "When"), axis))),
    h("tbody", {}, rows));
}

function shadeOf(stages) {
  const prefill = stages.find((each) => each.stage === "prefill" && each.end_s !== null);
  const transfer = stages.find((each) => each.stage === "transfer" && each.end_s !== null);
  if (!prefill || !transfer || overlap(prefill, transfer) === 0) return null;
  return [Math.max(prefill.begin_s, transfer.begin_s), Math.min(prefill.end_s, transfer.end_s)];
}

/** What the transfer was, in words. */
export function transferFacts(report) {
  if (!report) return [];
  return [
    ["Cache", report.ok ? "used" : `not used: ${report.reason}`],
    ["Bytes", `${bytes(report.cache_bytes)}${report.cache_bytes && report.ok ? `, ${percent(report.early_bytes / report.cache_bytes)} before the prefill ended` : ""}`],
    report.last_s > report.first_s && ["Pace", `${bytes(report.cache_bytes / (report.last_s - report.first_s))}/s from first to last byte`],
  ];
}
