// The page: asks, draws, and says when it cannot.

import { ask, key, pauseAfter, Refused, Rhythm } from "./api.js";
import { h, id, show } from "./dom.js";
import { ago, plural } from "./format.js";
import { news, remember } from "./history.js";
import { Kept } from "./kept.js";
import { drawMap } from "./map.js";
import { drawControl, drawEngines, drawGlance, drawLinks } from "./panels.js";
import { Requests } from "./decisions.js";

const THEMES = ["system", "light", "dark"];
const theme = new Kept("localStorage", "prfaas.theme");
const MOST_NEWS = 4;

let status = null;
let heardAt = 0;
let history = new Map();

const announce = (text) => { id("announce").textContent = text; };
const requests = new Requests();
const rhythm = new Rhythm(turn);

async function turn() {
  try {
    const now = await ask("status");
    await requests.refresh();
    isHeard(now);
    return true;
  } catch (error) {
    return isRefused(error);
  }
}

function isHeard(now) {
  if (rhythm.failures) announce("The gateway answers again.");
  else {
    const said = news(status, now);
    if (said.length) announce(said.length > MOST_NEWS ? `${said.slice(0, MOST_NEWS).join(" ")} And ${plural(said.length - MOST_NEWS, "more change")}.` : said.join(" "));
  }
  rhythm.failures = 0;
  status = now;
  heardAt = Date.now();
  history = remember(history, now);
  id("notice").hidden = true;
  id("key-form").hidden = true;
  draw();
}

/** The gateway says no, or says nothing. Returns whether to ask again. */
function isRefused(error) {
  if (error instanceof Refused && error.status === 401) {
    askForKey(key.get() ? "The gateway does not know this key." : "This gateway shows its fleet to its operators only.");
    return false;
  }
  if (error instanceof Refused && error.status === 403) {
    notice(`${error.message} Open this page on that machine, or through an SSH tunnel, or set gateway.operator_key_file and restart.`, "bad");
    return false;
  }
  if (!(error instanceof Refused) && !(error instanceof TypeError) && error.name !== "TimeoutError") console.error(error);
  rhythm.failures += 1;
  const since = heardAt ? `It last answered ${ago((Date.now() - heardAt) / 1000)} ago; what is shown is of then.` : "Is it running?";
  notice(`The gateway does not answer${error instanceof Refused ? ` as it should: ${error.message}` : ""}. ${since} Asking again in ${pauseAfter(rhythm.failures)} s.`, "bad");
  return true;
}

function notice(text, kind) {
  id("notice").hidden = false;
  id("notice").className = `notice ${kind}`;
  const again = h("button", { type: "button", onclick: () => rhythm.now() }, "Ask now");
  if (id("notice").firstChild?.textContent !== text) show(id("notice"), h("p", {}, text), again);
  pulse();
}

function askForKey(why) {
  key.forget();
  const isPlain = location.protocol === "http:" && !["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
  id("key-why").textContent = `${why}${isPlain ? " This page came in plain text, and so would the key go: use HTTPS, or an SSH tunnel." : ""}`;
  if (id("key-form").hidden) {
    id("key-form").hidden = false;
    id("key").focus();
  }
  id("notice").hidden = true;
  pulse();
}

function draw() {
  const { gateway } = status;
  document.title = `${gateway.site} · prfaas`;
  const { workers: all, heard_workers: heard } = gateway;
  const missing = heard < all ? `${heard} of ${all} workers answer: requests of the others are missing` : `${all} workers`;
  const workers = all > 1 ? ` · ${missing}` : "";
  id("identity").textContent = `site ${gateway.site} · ${gateway.model} · version ${gateway.version} · up ${ago(Math.floor(gateway.uptime_s / 60) * 60 || gateway.uptime_s)}${workers}`;
  id("forget").hidden = !key.get();
  drawGlance(id("glance"), status);
  drawMap(id("map"), status);
  drawControl(id("control"), status);
  drawLinks(id("links"), status, history);
  drawEngines(id("engines"), status);
  pulse();
}

function pulse() {
  const isAway = rhythm.failures > 0 || !heardAt;
  const state = rhythm.isPaused ? "paused" : !id("key-form").hidden ? "waiting" : isAway ? (id("notice").hidden ? "waiting" : "away") : "live";
  const words = { paused: "paused", waiting: id("key-form").hidden ? "asking the gateway" : "needs the key", away: "no answer", live: "live" };
  id("pulse").dataset.state = state;
  if (id("pulse-text").textContent !== words[state]) id("pulse-text").textContent = words[state];
}

function setTheme(name) {
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  id("theme").textContent = `Theme: ${name}`;
}

id("theme").addEventListener("click", () => {
  const next = THEMES[(THEMES.indexOf(theme.get() || "system") + 1) % THEMES.length];
  theme.set(next);
  setTheme(next);
});
id("pause").addEventListener("click", () => {
  rhythm.isPaused = !rhythm.isPaused;
  id("pause").setAttribute("aria-pressed", String(rhythm.isPaused));
  id("pause").textContent = rhythm.isPaused ? "Go on" : "Pause";
  pulse();
  rhythm.now();
});
id("forget").addEventListener("click", () => {
  key.forget();
  location.reload();
});
id("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key.set(id("key").value.trim());
  id("key").value = "";
  id("key-form").hidden = true;
  rhythm.now();
});
id("engines").addEventListener("click", (event) => {
  const name = event.target.closest("[data-find]")?.dataset.find;
  if (!name) return;
  id("query").value = name;
  requests.draw();
  id("requests").scrollIntoView({ block: "start" });
  id("query").focus({ preventScroll: true });
});
new ResizeObserver(() => status && drawMap(id("map"), status)).observe(id("map"));

setTheme(theme.get() || "system");
rhythm.now();
