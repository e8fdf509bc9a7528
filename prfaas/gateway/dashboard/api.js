// Asking the gateway: one question at a time, in the same rhythm, slower while it does not answer.

import { Kept } from "./kept.js";

const BASE = new URL("../prfaas/", import.meta.url);
export const EVERY_S = 2;
const PATIENCE_S = 10;
const MOST_S = 30;

/** For this tab alone. */
export const key = new Kept("sessionStorage", "prfaas.operator-key");

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** The JSON at a path below /prfaas/. Throws Refused for the gateway's own no, other errors when it is away. */
export async function ask(path) {
  const headers = key.get() ? { authorization: `Bearer ${key.get()}` } : {};
  const answer = await fetch(new URL(path, BASE), {
    headers,
    cache: "no-store",
    credentials: "omit",
    redirect: "error",
    signal: AbortSignal.timeout(PATIENCE_S * 1000),
  });
  if (answer.ok) return answer.json();
  const told = await answer.json().catch(() => null);
  throw new Refused(answer.status, told?.error?.message ?? `the gateway answers ${answer.status}`);
}

/** How long to wait after so many failures in a row. */
export const pauseAfter = (failures) => (failures === 0 ? EVERY_S : Math.min(MOST_S, EVERY_S * 2 ** failures));

/** Calls `turn` again and again, never twice at once; rests while the page is hidden or it is told to. */
export class Rhythm {
  constructor(turn) {
    this.turn = turn;
    this.failures = 0;
    this.isPaused = false;
    this.isBusy = false;
    this.timer = 0;
    this.nextAt = 0;
    document.addEventListener("visibilitychange", () => this.now());
  }

  get rests() {
    return this.isPaused || document.hidden;
  }

  async now() {
    clearTimeout(this.timer);
    if (this.rests || this.isBusy) return;
    this.isBusy = true;
    const goesOn = await this.turn().finally(() => { this.isBusy = false; });
    if (!goesOn || this.rests) return;
    const pause = pauseAfter(this.failures) * 1000;
    this.nextAt = Date.now() + pause;
    this.timer = setTimeout(() => this.now(), pause);
  }
}
