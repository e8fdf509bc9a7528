// What was seen of each link in the last minutes, in this tab alone; and what has changed between two looks. Pure.

export const MOST = 150;

/** The link's load over time, as [unix seconds, share] pairs, with one more; bounded. */
export function remember(history, status) {
  const next = new Map();
  for (const link of status.links) {
    const name = linkName(link);
    next.set(name, [...(history.get(name) ?? []), [status.gateway.unix_s, link.utilisation]].slice(-MOST));
  }
  return next;
}

export const linkName = (link) => `${link.source} → ${link.target}`;

export const engineWord = (engine) => (engine.healthy && engine.broken && engine.state === "healthy" ? "broken" : engine.state);

export function linkWord(link) {
  if (link.broken) return "broken";
  if (link.congested) return "congested";
  return link.scarce ? "scarce" : "ok";
}

/** What somebody who does not look should hear: sentences, empty when nothing of weight is different. */
export function news(before, now) {
  if (!before) return [];
  const said = [];
  const compare = (olds, news_, name, word, what) => {
    const known = new Map(olds.map((each) => [name(each), word(each)]));
    for (const each of news_) {
      const was = known.get(name(each));
      if (was === undefined) said.push(`${what} ${name(each)} is new.`);
      else if (was !== word(each)) said.push(`${what} ${name(each)} is ${word(each) === "ok" ? "well again" : word(each)}.`);
    }
  };
  compare(before.engines, now.engines, (each) => each.name, engineWord, "Engine");
  compare(before.links, now.links, linkName, linkWord, "Link");
  if (before.controller.threshold_tokens !== now.controller.threshold_tokens) {
    said.push(`t is ${now.controller.threshold_tokens} tokens now.`);
  }
  return said;
}
