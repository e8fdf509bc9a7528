// What stands beside the map: figures at a glance, the controller, links, engines.

import { empty, facts, h, s, show, table, tag } from "./dom.js";
import { ago, bits, bytes, clock, count, percent, plural, rate, seconds } from "./format.js";
import { engineWord, linkName, linkWord, MOST } from "./history.js";
import { EVERY_S } from "./api.js";

const KINDS = { healthy: "good", unhealthy: "bad", broken: "bad", draining: "warn", drained: "warn", converting: "warn", ok: "good", scarce: "warn", congested: "warn" };

export function drawGlance(parent, status) {
  const { recent, admission, controller } = status;
  const waiting = admission.classes.reduce((sum, each) => sum + each.waiting, 0);
  const ended = recent.requests - (recent.outcomes.running ?? 0);
  const bad = ["error", "recomputed", "unknown", "refused"].map((word) => [word, recent.outcomes[word] ?? 0]).filter(([, many]) => many);
  const remote = recent.outcomes.remote ?? 0;
  const since = recent.since_unix_s ? `in the last ${plural(recent.requests, "request")}` : "no request yet";
  const known = recent.prompt_tokens > 0;
  const tile = (name, value, unit, more) =>
    h("div", {}, h("dt", {}, name), h("dd", { class: "big" }, value, unit && h("span", { class: "unit" }, ` ${unit}`)), h("dd", { class: "more" }, more));
  show(parent,
    tile("In progress", count(admission.running), `of ${count(admission.max_running)}`, waiting ? `${plural(waiting, "request")} in line` : "nobody in line"),
    tile("Threshold t", count(controller.threshold_tokens), "tokens", controller.mode === "shadow" ? `controller would have ${count(controller.wanted_threshold_tokens)}` : `controller ${controller.mode}`),
    tile("Prefilled remotely", ended ? percent(remote / ended) : "–", "", ended ? `${remote} of ${ended} · ${bytes(recent.cache_bytes)} of cache` : "no request yet"),
    tile("Cache hits", known ? percent(recent.reused_tokens / recent.prompt_tokens) : "–", "of prompt tokens", known ? `${count(recent.reused_tokens)} reused` : "no counted prompt yet"),
    tile("First token", seconds(recent.first_output_p50_s), "median", recent.first_output_p95_s === null ? "no streamed answer yet" : `${seconds(recent.first_output_p95_s)} for the slowest 5 %`),
    tile("Trouble", count(bad.reduce((sum, [, many]) => sum + many, 0)), "", bad.length ? bad.map(([word, many]) => `${many} ${word}`).join(", ") : since),
  );
}

export function drawControl(parent, status) {
  const { controller, admission } = status;
  const change = controller.last_change;
  const mode = { on: "on: it acts", shadow: "shadow: it only tells", off: "off" }[controller.mode];
  const waits = admission.classes.filter((each) => each.waiting);
  show(parent,
    h("p", { class: "t" }, h("b", {}, `t = ${count(controller.threshold_tokens)}`), h("span", { class: "quiet" }, "tokens; longer uncached prompts go elsewhere")),
    facts([
      ["Mode", mode],
      controller.mode !== "off" && ["Would have", controller.wanted_threshold_tokens === null ? "nothing yet" : `t = ${count(controller.wanted_threshold_tokens)}`],
      controller.planned_threshold_tokens !== null && ["Planned", `t = ${count(controller.planned_threshold_tokens)} in the long term`],
      ["Configured", `t = ${count(controller.configured_threshold_tokens)}`],
      controller.arrival_requests_s !== null && ["Arrivals", rate(controller.arrival_requests_s, "requests")],
      controller.capacity_requests_s !== null && ["Capacity", `${rate(controller.capacity_requests_s, "requests")}${controller.binding ? `, bound by ${controller.binding}` : ""}`],
      ["Line", waits.length ? waits.map((each) => `${each.waiting} of ${each.max_waiting} ${each.priority}`).join(", ") : "empty"],
      ...controller.conversions.map((each) => ["Converting", `${each.engine} to ${each.role}, for ${ago(each.for_s)}`]),
    ]),
    controller.why && h("p", { class: "said" }, "Another division is wanted: ", controller.why),
    controller.waits_for && h("p", { class: "said" }, "It waits: ", controller.waits_for),
    change && h("div", { class: "said" }, h("p", {}, `${clock(change.unix_s)}  ${change.what}`), change.reasons.length > 0 && h("ul", {}, change.reasons.map((each) => h("li", {}, each)))),
    controller.last_error && h("p", { class: "problem" }, `Its last look failed: ${controller.last_error}`),
  );
}

/** A line of the load's share over the last minutes; the dashed line is the capacity. */
export function sparkline(points) {
  const width = 300;
  const height = 44;
  if (points.length < 2) return s("svg", { class: "spark", viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  const last = points.at(-1)[0];
  const span = MOST * EVERY_S;
  const xy = points.map(([at, share]) => [width * (1 - (last - at) / span), height - 2 - (height - 6) * Math.min(1, share)]).filter(([x]) => x >= 0);
  const line = xy.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L");
  return s("svg", { class: "spark", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    s("line", { class: "top", x1: 0, x2: width, y1: 4, y2: 4 }),
    s("path", { class: "area", d: `M${xy[0][0].toFixed(1)} ${height - 2}L${line}L${width} ${height - 2}Z` }),
    s("path", { class: "trace", d: `M${line}` }));
}

export function drawLinks(parent, status, history) {
  if (status.links.length === 0) {
    show(parent, empty("No link is configured, so every prompt is prefilled at this site. Add one under “links” and reload."));
    return;
  }
  show(parent, status.links.map((link) => {
    const word = linkWord(link);
    const points = history.get(linkName(link)) ?? [];
    const peak = Math.max(0, ...points.map(([, share]) => share));
    const fact = (name, value) => h("span", {}, `${name} `, h("b", {}, value));
    return h("article", { class: "link" },
      h("header", {}, h("h3", {}, linkName(link)), tag(KINDS[word] ?? "bad", word === "ok" ? "well" : word)),
      h("div", { class: "rate" },
        h("div", { class: link.scarce || link.congested ? "fill scarce" : "fill", role: "meter", "aria-label": `Load of ${linkName(link)}`, "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": String(Math.round(link.utilisation * 100)), "aria-valuetext": `${bits(link.load_bytes_s)} of ${bits(link.bandwidth_bytes_s)}`, "data-share": link.utilisation.toFixed(3) }, h("span")),
        h("span", {}, h("b", {}, bits(link.load_bytes_s)), h("span", { class: "quiet" }, ` of ${bits(link.bandwidth_bytes_s)}`))),
      sparkline(points),
      h("p", { class: "facts" },
        fact("peak", percent(peak)), fact("goodput", link.goodput_bytes_s ? bits(link.goodput_bytes_s) : "none yet"), fact("queued", bytes(link.queued_bytes)), fact("round trip", seconds(link.rtt_s)),
        fact("requests", count(link.requests)),
        link.budget_bytes !== null && fact("budget left", `${bytes(link.budget_left_bytes)} of ${bytes(link.budget_bytes)} a day`)),
      link.broken && h("p", { class: "problem" }, "Its circuit breaker is open: transfers failed, and it is left alone for a while. Caches are made at this site meanwhile."));
  }));
  for (const fill of parent.querySelectorAll("[data-share]")) fill.firstChild.style.width = `${Math.min(100, fill.dataset.share * 100)}%`;
}

export function drawEngines(parent, status) {
  if (status.engines.length === 0) {
    show(parent, empty("No engine is configured: add one under “engines” and reload."));
    return;
  }
  const columns = [["Engine"], ["State"], ["Requests", "num"], ["Queue", "num spare"], ["Speed", "num spare"], ["Hits", "num spare"]];
  const rows = status.engines.map((engine) => {
    const word = engineWord(engine);
    const hits = engine.recent_prompt_tokens ? percent(engine.recent_reused_tokens / engine.recent_prompt_tokens) : "–";
    return h("tr", {},
      h("th", { scope: "row" }, h("button", { type: "button", class: "plain", "data-find": engine.name, title: "Show its requests" }, engine.name), h("div", { class: "quiet" }, `${engine.site} · ${engine.roles.join(" and ")}`)),
      h("td", {}, tag(KINDS[word], word), engine.problem && engine.state !== "healthy" && h("div", { class: "problem" }, engine.problem), engine.state !== "healthy" && h("div", { class: "quiet" }, `for ${roughly(engine.state_for_s)}`)),
      h("td", { class: "num" }, engine.capacity ? `${engine.inflight} / ${engine.capacity}` : count(engine.inflight), engine.awaiting > 0 && h("div", { class: "quiet" }, `${engine.awaiting} without cache`)),
      h("td", { class: "num spare" }, engine.waiting_tokens ? count(engine.waiting_tokens) : "0", h("span", { class: "quiet" }, " tok"), engine.wait_s ? h("div", { class: "quiet" }, seconds(engine.wait_s)) : null),
      h("td", { class: "num spare" }, engine.prefill_tokens_s ? `${count(engine.prefill_tokens_s)} tok/s` : "–", engine.speed_source && h("div", { class: "quiet" }, engine.speed_source)),
      h("td", { class: "num spare" }, hits, h("div", { class: "quiet" }, engine.prefix_knowledge)));
  });
  show(parent, h("div", { class: "wide", role: "region", "aria-label": "Table of engines", tabindex: "0" }, table("All engines", columns, rows)));
}

/** Coarse, so that the table stands still while the seconds go by. */
const roughly = (value) => (value < 60 ? "less than a minute" : value < 3600 ? `${Math.floor(value / 60)} min` : ago(value));
