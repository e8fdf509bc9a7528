// The last requests: kept as they come, filtered, moved through by keyboard, one of them in detail.

import { facts, h, id, show, table, tag, empty } from "./dom.js";
import { ask, Refused } from "./api.js";
import { ago, bytes, clock, count, plural, seconds, tokens } from "./format.js";
import { timelineTable, transferFacts, verdict } from "./timeline.js";

const SHOWN = 100;
const KINDS = { local: "good", remote: "good remote", running: "", recomputed: "warn", unknown: "warn", cancelled: "", error: "bad", refused: "bad" };
export const OUTCOMES = Object.keys(KINDS);

/** Clients may give several requests one id. */
const keyOf = (each) => `${each.request_id} ${each.arrived_unix_s}`;

/** The kept requests with those that are new or changed, the latest first; bounded. Pure. */
export function merged(kept, told, most = 256) {
  const changed = new Map(told.map((each) => [keyOf(each), each]));
  const rest = kept.map((each) => {
    const now = changed.get(keyOf(each));
    changed.delete(keyOf(each));
    return now ?? each;
  });
  return [...told.filter((each) => changed.has(keyOf(each))), ...rest].slice(0, most);
}

/** Those with this outcome and all of these words. Pure. */
export function found(decisions, outcome, query) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  return decisions.filter((each) => {
    if (outcome && each.outcome !== outcome) return false;
    const text = [each.request_id, each.decode, each.prefill, each.tenant, each.placement, each.outcome, each.endpoint, each.detail, ...each.reasons, each.transfer_id].join(" ").toLowerCase();
    return words.every((word) => text.includes(word));
  });
}

/** Of every worker that a cursor speaks of. Pure. */
const epochs = (cursor) => cursor.split(",").map((part) => part.split("-")[0]);

export class Requests {
  constructor() {
    this.kept = [];
    this.cursor = "";
    this.chosen = null;
    this.isKnown = false;
    this.focused = "";
    for (const word of OUTCOMES) id("outcome").append(h("option", { value: word }, word));
    id("outcome").addEventListener("change", () => this.draw());
    id("query").addEventListener("input", () => this.draw());
    id("find").addEventListener("submit", (event) => this.lookUp(event));
    const list = id("decisions");
    list.addEventListener("keydown", (event) => this.move(event));
    list.addEventListener("click", (event) => this.pick(event.target.closest("tr[data-id]")?.dataset.id));
    id("detail").addEventListener("keydown", (event) => event.key === "Escape" && this.close());
    if (location.hash.startsWith("#request=")) this.open(decoded(location.hash.slice(9)));
  }

  async refresh() {
    const told = await ask(`decisions?after=${encodeURIComponent(this.cursor)}`);
    const isSame = epochs(told.cursor).some((each) => epochs(this.cursor).includes(each));
    this.kept = merged(isSame ? this.kept : [], told.decisions);
    this.cursor = told.cursor;
    this.draw();
    const isNews = told.decisions.some((each) => each.request_id === this.chosen);
    if (this.chosen && (isNews || !this.isKnown)) await this.detail(this.chosen);
  }

  draw() {
    const fitting = found(this.kept, id("outcome").value, id("query").value);
    const rows = fitting.slice(0, SHOWN);
    const isFiltered = id("outcome").value || id("query").value;
    const said = this.kept.length === 0 ? "" : isFiltered
      ? `${plural(fitting.length, "request")} of the last ${this.kept.length}${fitting.length > SHOWN ? `; the latest ${SHOWN} are shown` : ""}`
      : `The last ${plural(this.kept.length, "request")}${fitting.length > SHOWN ? `; the latest ${SHOWN} are shown` : ""}. Arrow keys move, Enter opens.`;
    if (id("found").textContent !== said) id("found").textContent = said;
    const list = id("decisions");
    if (rows.length === 0) {
      show(list, this.kept.length === 0
        ? empty("No request has come yet. Send one to ", h("code", {}, "/v1/chat/completions"), ", and it appears here with its reasons.")
        : empty("None of the kept requests fits. “Look up” asks the gateway for the exact id; the gateway’s log has older ones."));
      return;
    }
    if (!rows.some((each) => each.request_id === this.focused)) this.focused = rows[0].request_id;
    const hadFocus = list.contains(document.activeElement) && document.activeElement !== list;
    const columns = [["Arrived"], ["Request"], ["Outcome"], ["Prefill → decode", "spare"], ["Prompt", "num spare"], ["First token", "num"], ["Total", "num spare"], ["Why", "spare"]];
    show(list, table("The latest requests, the latest first", columns, rows.map((each) => this.row(each))));
    if (hadFocus) list.querySelector('button[tabindex="0"]')?.focus({ preventScroll: true });
  }

  row(decision) {
    const isChosen = decision.request_id === this.chosen;
    const way = decision.outcome === "refused" ? "–" : decision.prefill ? `${decision.prefill} → ${decision.decode}` : decision.decode;
    return h("tr", { "data-id": decision.request_id, class: isChosen && "chosen" },
      h("td", { class: "num" }, clock(decision.arrived_unix_s)),
      h("td", {}, h("button", { type: "button", class: "plain mono", tabindex: decision.request_id === this.focused ? "0" : "-1", "aria-expanded": String(isChosen), "aria-controls": "detail" }, decision.request_id)),
      h("td", {}, tag(KINDS[decision.outcome] ?? "", decision.outcome)),
      h("td", { class: "spare" }, way),
      h("td", { class: "num spare" }, count(decision.prompt_tokens)),
      h("td", { class: "num" }, seconds(decision.first_output_s)),
      h("td", { class: "num spare" }, seconds(decision.total_s)),
      h("td", { class: "why spare" }, h("span", {}, [...decision.reasons, decision.detail].filter(Boolean).join("; "))));
  }

  move(event) {
    const buttons = [...id("decisions").querySelectorAll("tbody button")];
    const at = buttons.indexOf(document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: buttons.length - 1, PageDown: at + 10, PageUp: at - 10 }[event.key];
    if (to === undefined || buttons.length === 0 || (at < 0 && event.key !== "ArrowDown")) return;
    event.preventDefault();
    const next = buttons[Math.max(0, Math.min(buttons.length - 1, to))];
    for (const each of buttons) each.tabIndex = each === next ? 0 : -1;
    this.focused = next.closest("tr").dataset.id;
    next.focus();
  }

  pick(requestId) {
    if (!requestId) return;
    this.focused = requestId;
    if (requestId === this.chosen) this.close();
    else this.open(requestId);
  }

  async lookUp(event) {
    event.preventDefault();
    const wanted = id("query").value.trim();
    const exact = found(this.kept, "", wanted);
    if (wanted) await this.open(exact.length === 1 ? exact[0].request_id : wanted);
  }

  async open(requestId) {
    this.chosen = requestId;
    history.replaceState(null, "", `#request=${encodeURIComponent(requestId)}`);
    this.draw();
    await this.detail(requestId);
    id("detail-title")?.focus();
  }

  close() {
    this.chosen = null;
    history.replaceState(null, "", location.pathname);
    id("detail").hidden = true;
    this.draw();
    id("decisions").querySelector('button[tabindex="0"]')?.focus();
  }

  async detail(requestId) {
    let body;
    try {
      body = this.described(await ask(`requests/${encodeURIComponent(requestId)}`));
      this.isKnown = true;
    } catch (error) {
      const why = error instanceof Refused ? error.message : "The gateway does not answer.";
      body = [h("p", { class: "verdict" }, why)];
      this.isKnown = error instanceof Refused && error.status === 404; // asking again would say the same
    }
    if (this.chosen !== requestId) return;
    const hadFocus = id("detail").contains(document.activeElement);
    id("detail").hidden = false;
    const close = h("button", { type: "button", "aria-label": "Close the details", onclick: () => this.close() }, "Close");
    show(id("detail"), h("div", { class: "top" }, h("h3", { id: "detail-title", tabindex: "-1", class: "mono" }, requestId), close), body);
    if (hadFocus && !id("detail").contains(document.activeElement)) id("detail-title").focus();
  }

  described({ decision, timeline }) {
    const age = decision.arrived_unix_s ? Date.now() / 1000 - decision.arrived_unix_s : 0;
    const namesakes = this.kept.filter((each) => each.request_id === decision.request_id).length;
    const predicted = decision.candidates.map((each) => h("tr", {},
      h("th", { scope: "row" }, each.prefill ? `${each.prefill} → ${each.decode}` : each.decode),
      h("td", {}, each.is_remote ? "remote" : "local"),
      h("td", { class: "num" }, count(each.uncached_tokens)),
      h("td", { class: "num" }, bytes(each.transfer_bytes)),
      h("td", { class: "num" }, seconds(each.first_token_s))));
    return [
      h("p", {}, tag(KINDS[decision.outcome] ?? "", decision.outcome), " ", h("span", { class: "quiet" },
        [decision.endpoint, decision.status && `HTTP ${decision.status}`, decision.tenant && `tenant ${decision.tenant}`, decision.arrived_unix_s && `${clock(decision.arrived_unix_s)}, ${ago(age)} ago`].filter(Boolean).join(" · "))),
      namesakes > 1 && h("p", { class: "quiet" }, `${namesakes} kept requests came with this id; this is the latest of them.`),
      h("p", { class: "verdict" }, verdict(decision, timeline)),
      h("div", { class: "wide", role: "region", "aria-label": "Timeline of this request", tabindex: "0" }, timelineTable(decision, timeline, age)),
      decision.detail && h("p", { class: "problem" }, decision.detail),
      h("h3", {}, "Why it went there"),
      h("ul", { class: "reasons" }, decision.reasons.map((each) => h("li", {}, each))),
      h("h3", {}, "Figures"),
      facts([
        ["Prompt", decision.prompt_tokens === null ? "not counted: only the engine knows" : `${tokens(decision.prompt_tokens)}${decision.uncached_tokens === null ? "" : `, ${count(decision.uncached_tokens)} of them to compute`}`],
        ["First output", seconds(decision.first_output_s)],
        ["Total", seconds(decision.total_s)],
        ...transferFacts(decision.report),
        decision.transfer_id && ["Transfer", h("code", {}, decision.transfer_id)],
      ]),
      predicted.length > 0 && [h("h3", {}, "Ways that were compared"), h("div", { class: "wide", role: "region", "aria-label": "Ways that were compared", tabindex: "0" },
        table("Ways that were compared, the chosen one first", [["Way"], ["Where"], ["To compute", "num"], ["Cache", "num"], ["Predicted", "num"]], predicted))],
    ];
  }
}

/** What somebody typed into the address may be no encoding at all. */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
