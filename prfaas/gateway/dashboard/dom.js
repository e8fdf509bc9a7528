// Elements from code: texts are only ever texts, so no name, reason or id can become markup.

const SVG = "http://www.w3.org/2000/svg";

function made(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(3).filter((each) => each !== null && each !== undefined && each !== false));
  return node;
}

export const h = (tag, attributes = {}, ...children) => made(document.createElement(tag), attributes, children);
export const s = (tag, attributes = {}, ...children) => made(document.createElementNS(SVG, tag), attributes, children);
export const id = (name) => document.getElementById(name);

/** Put the children in place, unless they are what is there: what has not changed keeps its focus and selection. */
export function show(parent, ...children) {
  const next = document.createElement("div");
  next.append(...children.flat(3).filter(Boolean));
  if (parent.innerHTML !== next.innerHTML) parent.replaceChildren(...next.childNodes);
}

export const facts = (pairs) =>
  h("dl", { class: "facts-list" }, pairs.filter((pair) => pair).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));

export const empty = (...words) => h("p", { class: "empty" }, ...words);

/** A table with a caption; `columns` are [text, class] pairs. */
export function table(caption, columns, rows, attributes = {}) {
  const head = columns.map(([text, kind]) => h("th", { scope: "col", class: kind }, text));
  return h("table", attributes, h("caption", { class: "sr" }, caption), h("thead", {}, h("tr", {}, head)), h("tbody", {}, rows));
}

export const tag = (kind, text) => h("span", { class: `tag ${kind}` }, text);
