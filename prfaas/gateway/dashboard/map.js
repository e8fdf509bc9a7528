// The fleet as a picture: sites as boxes, engines in them, links as lines as wide as their capacity. The tables beside it
// say the same in words, so that the picture is one image to a screen reader.

import { s, show, empty } from "./dom.js";
import { bits, count, percent, plural } from "./format.js";
import { engineWord, linkName, linkWord } from "./history.js";
import { GAP, layout } from "./layout.js";

const MARKS = { healthy: "good", unhealthy: "bad", broken: "bad", draining: "warn", drained: "warn", converting: "warn" };

/** The picture's words. */
export function summary(status) {
  const sites = status.sites.map((site) => {
    const name = site.is_local ? `${site.name}, where requests are decoded` : site.name;
    return `Site ${name}: ${site.healthy_engines} of ${plural(site.engines, "engine")} in service, ${plural(site.inflight, "request")}.`;
  });
  const links = status.links.map((link) => `Link ${linkName(link)}: ${linkWord(link)}, ${percent(link.utilisation)} of ${bits(link.bandwidth_bytes_s)}.`);
  return [...sites, ...links].join(" ");
}

export function drawMap(figure, status) {
  const width = Math.max(280, Math.floor(figure.clientWidth));
  if (status.engines.length === 0) {
    show(figure, empty("No engine is configured: add one under “engines” and reload."));
    return;
  }
  const plan = layout(status, width);
  const picture = s(
    "svg",
    { viewBox: `0 0 ${plan.width} ${Math.ceil(plan.height)}`, height: Math.ceil(plan.height), role: "img", "aria-label": summary(status) },
    plan.sites.map(siteBox),
    plan.links.map((each) => linkLine(each, plan.isNarrow)),
  );
  show(figure, picture);
}

function siteBox({ site, x, y, width, height, chips }) {
  const load = `${site.healthy_engines} of ${site.engines} in service · ${plural(site.inflight, "request")}`;
  return s("g", {},
    s("rect", { class: site.is_local ? "site local" : "site", x: x + 0.5, y: y + 0.5, width: width - 1, height: height - 1, rx: 12 }),
    s("text", { class: "strong", x: x + GAP + 2, y: y + 26 }, site.name, s("tspan", { class: "small", dx: 8 }, site.is_local ? "this site" : "")),
    s("text", { class: "small", x: x + width - GAP - 2, y: y + 26, "text-anchor": "end" }, load),
    chips.map((chip) => (chip.isDense ? engineDot(chip) : engineChip(chip))),
  );
}

function roleLetters(engine) {
  return engine.roles.map((role) => (role === "prefill" ? "P" : "D")).join(" ");
}

function mark(kind, x, y) {
  if (kind === "good") return s("circle", { class: "mark good", cx: x, cy: y, r: 4.5 });
  if (kind === "warn") return s("path", { class: "mark warn", d: `M${x} ${y - 5.5}L${x + 5.5} ${y}L${x} ${y + 5.5}L${x - 5.5} ${y}Z` });
  return s("rect", { class: "mark bad", x: x - 4.5, y: y - 4.5, width: 9, height: 9 });
}

function engineChip({ engine, x, y, width, height }) {
  const word = engineWord(engine);
  const kind = MARKS[word];
  const share = engine.capacity ? Math.min(1, engine.inflight / engine.capacity) : 0;
  const inner = width - 24;
  const most = Math.floor((inner - 52) / 7.4);
  const queue = engine.waiting_tokens ? `${count(engine.waiting_tokens)} tok wait` : `${engine.inflight}${engine.capacity ? `/${engine.capacity}` : ""} req`;
  return s("g", {},
    s("title", {}, `${engine.name}: ${word}, ${engine.roles.join(" and ")}, ${plural(engine.inflight, "request")}, ${plural(engine.waiting_tokens, "token")} waiting`),
    s("rect", { class: `engine ${word}`, x: x + 0.5, y: y + 0.5, width: width - 1, height: height - 1, rx: 8 }),
    mark(kind, x + 15, y + 19),
    s("text", { class: "strong", x: x + 26, y: y + 23.5 }, shortened(engine.name, most)),
    s("text", { class: "small strong", x: x + width - 12, y: y + 23.5, "text-anchor": "end" }, roleLetters(engine)),
    s("text", { class: kind === "good" ? "small" : `small ${kind}-text`, x: x + 12, y: y + 42 }, kind === "good" ? "" : word),
    s("text", { class: "small", x: kind === "good" ? x + 12 : x + width - 12, y: y + 42, "text-anchor": kind === "good" ? "start" : "end" }, queue),
    s("rect", { class: "track", x: x + 12, y: y + height - 12, width: inner, height: 5, rx: 2.5 }),
    share > 0 && s("rect", { class: engine.roles.includes("decode") ? "load decode" : "load", x: x + 12, y: y + height - 12, width: Math.max(4, inner * share), height: 5, rx: 2.5 }),
  );
}

function engineDot({ engine, x, y, width, height }) {
  const word = engineWord(engine);
  const share = engine.capacity ? Math.min(1, engine.inflight / engine.capacity) : 0;
  const tall = Math.round((height - 2) * share);
  return s("g", {},
    s("title", {}, `${engine.name}: ${word}, ${plural(engine.inflight, "request")}`),
    s("rect", { class: `engine ${word}`, x: x + 0.5, y: y + 0.5, width: width - 1, height: height - 1, rx: 6 }),
    tall > 0 && s("rect", { class: "load", opacity: 0.3, x: x + 1, y: y + height - 1 - tall, width: width - 2, height: tall, rx: 5 }),
    MARKS[word] === "good" ? s("text", { class: "small strong", x: x + width / 2, y: y + height / 2 + 4, "text-anchor": "middle" }, roleLetters(engine).replace(" ", "")) : mark(MARKS[word], x + width / 2, y + height / 2),
  );
}

function linkLine({ link, wide, path, middle, words, end }, isNarrow) {
  const word = linkWord(link);
  const [x, y] = middle;
  const load = Math.max(link.utilisation > 0 ? 1.5 : 0, wide * Math.min(1, link.utilisation));
  const kind = word === "broken" ? "bad-text" : word === "ok" ? "" : "warn-text";
  const title = `${linkName(link)}: ${word}, ${bits(link.load_bytes_s)} of ${bits(link.bandwidth_bytes_s)}`;
  const upper = `${bits(link.load_bytes_s)} of ${bits(link.bandwidth_bytes_s)}`;
  const lower = [word === "ok" ? percent(link.utilisation) : word, link.rtt_s && `${(link.rtt_s * 1e3).toFixed(link.rtt_s < 0.01 ? 1 : 0)} ms`].filter(Boolean).join(" · ");
  return s("g", {},
    s("title", {}, title),
    s("path", { class: "rim", d: path, "stroke-width": wide + 2 }),
    s("path", { class: "capacity", d: path, "stroke-width": wide }),
    word === "broken"
      ? s("path", { class: "flow broken-link", d: path, "stroke-width": 3 })
      : load > 0 && s("path", { class: link.scarce || link.congested ? "flow scarce" : "flow", d: path, "stroke-width": load }),
    word !== "broken" && link.requests > 0 && s("path", { class: "moving", d: path }),
    s("path", { class: "arrow", d: `M-13 -${wide / 2 + 5}L0 0L-13 ${wide / 2 + 5}Z`, transform: `translate(${end[0]} ${end[1]}) rotate(${end[2]})` }),
    word === "broken" && s("path", { class: "cross", d: `M${x - 7} ${y - 7}l14 14m0 -14l-14 14` }),
    isNarrow
      ? s("text", { class: "small", x: words[0], y: words[1] }, s("tspan", { class: `strong ${kind}` }, `→ ${link.target} `), `${lower} · ${upper}`)
      : plate(words[0], words[1] - wide / 2 - 26, upper, lower, kind),
  );
}

/** Two lines of text, on a ground of their own where something may be beneath. */
function plate(x, y, upper, lower, kind) {
  const half = Math.max(upper.length, lower.length) * 3.3 + 8;
  return s("g", {},
    s("rect", { class: "plate", x: x - half, y: y - 15, width: 2 * half, height: 36, rx: 6 }),
    s("text", { class: `small strong ${kind}`, x, y, "text-anchor": "middle" }, lower),
    s("text", { class: "small", x, y: y + 15, "text-anchor": "middle" }, upper));
}

function shortened(name, most) {
  return name.length <= most ? name : `${name.slice(0, Math.max(1, most - 1))}…`;
}
