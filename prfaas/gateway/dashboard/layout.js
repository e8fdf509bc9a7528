// Where everything of the fleet's picture is, in pixels, for the width that there is. Pure.

export const GAP = 12;
const HEAD = 42;
const CHIP = { width: 138, height: 62 };
const LANE = 26;
const DOT = { width: 30, height: 30 };
const MANY = 24;
const NARROW = 620;

/** Where everything is, for a picture of this width. Pure: pixels. */
export function layout(status, width) {
  const isNarrow = width < NARROW;
  const here = status.sites.filter((site) => site.is_local);
  const there = status.sites.filter((site) => !site.is_local);
  const between = there.length === 0 ? 0 : isNarrow ? 34 : Math.min(300, Math.max(190, width * 0.24));
  const columns = isNarrow || there.length === 0 ? 1 : 2;
  const boxWidth = columns === 1 ? width : (width - between) / 2;
  const lanes = isNarrow && there.length ? status.links.length * LANE + 8 : 0;
  const most = isNarrow ? Math.max(1, ...there.map((site) => status.links.filter((link) => link.source === site.name || link.target === site.name).length)) : 0;
  const left = stacked(there, status, boxWidth - lanes, 0, 0, most * 18);
  const right = stacked(here, status, boxWidth, columns === 1 ? 0 : boxWidth + between, 0, 0);
  let height = Math.max(left.height, right.height);
  if (columns === 1) {
    shift(right, left.height + between);
    height = left.height + between + right.height;
  } else {
    shift(right, (height - right.height) / 2);
    shift(left, (height - left.height) / 2);
  }
  const sites = [...left.sites, ...right.sites];
  return { width, height, isNarrow, sites, links: joined(status.links, sites, isNarrow, width) };
}

function stacked(sites, status, width, x, y, words) {
  const boxes = sites.map((site) => {
    const engines = status.engines.filter((each) => each.site === site.name);
    const isDense = engines.length > MANY;
    const cell = isDense ? DOT : CHIP;
    const columns = Math.max(1, Math.floor((width - GAP) / (cell.width + (isDense ? 6 : GAP))));
    const across = Math.max(1, Math.min(columns, engines.length));
    const gap = isDense ? 6 : GAP;
    const each = isDense ? cell.width : (width - GAP * (across + 1)) / across;
    const chips = engines.map((engine, at) => ({
      engine,
      isDense,
      x: x + GAP + (at % across) * (each + gap),
      y: y + HEAD + Math.floor(at / across) * (cell.height + gap),
      width: isDense ? cell.width : each,
      height: cell.height,
    }));
    const rows = Math.max(1, Math.ceil(engines.length / across));
    const box = { site, x, y, width, height: HEAD + rows * (cell.height + gap) - gap + GAP, chips };
    y += box.height + 22 + words;
    return box;
  });
  return { sites: boxes, height: boxes.length ? y - 22 : 0 };
}

function shift(stack, by) {
  for (const box of stack.sites) {
    box.y += by;
    for (const chip of box.chips) chip.y += by;
  }
}

/** Lines between boxes: a pixel for each doubling of capacity, so that 1 and 100 Gbit/s can be told apart. */
function joined(links, boxes, isNarrow, width) {
  const box = new Map(boxes.map((each) => [each.site.name, each]));
  const drawn = links.filter((link) => box.has(link.source) && box.has(link.target));
  const between = (link) => [link.source, link.target].sort().join("|");
  const ends = isNarrow ? [] : portsOf(drawn, box);
  return drawn.map((link, at) => {
    const others = drawn.filter((each) => between(each) === between(link));
    const aside = (others.indexOf(link) - (others.length - 1) / 2) * 62;
    const from = box.get(link.source);
    const to = box.get(link.target);
    const wide = lineWidth(link.bandwidth_bytes_s);
    return { link, wide, ...(isNarrow ? round(from, to, width - LANE * (at + 0.5), at) : across(from, to, aside, ends[at])) };
  });
}

/** How high each line ends: as it begins if its site reaches there, and apart from the others. */
function portsOf(links, box) {
  const taken = new Map();
  return links.map((link) => {
    const to = box.get(link.target);
    const from = box.get(link.source);
    const others = taken.get(link.target) ?? [];
    taken.set(link.target, others);
    let y = Math.max(to.y + 30, Math.min(to.y + to.height - 30, from.y + from.height / 2));
    while (others.some((each) => Math.abs(each - y) < 34)) y += 34;
    others.push(y);
    return y;
  });
}

export const lineWidth = (bytesPerSecond) => Math.min(26, Math.max(6, 8 + 2.2 * Math.log2((bytesPerSecond * 8) / 1e9)));

function across(from, to, aside, y) {
  if (from.x === to.x) return beside(from, to, aside);
  const isRight = from.x < to.x;
  const x1 = isRight ? from.x + from.width : from.x;
  const x2 = isRight ? to.x : to.x + to.width;
  const y1 = from.y + from.height / 2 + aside;
  const y2 = y + aside;
  const middle = (x1 + x2) / 2;
  return {
    path: Math.abs(y1 - y2) < 1 ? `M${x1} ${y1}H${x2}` : `M${x1} ${y1}C${middle} ${y1} ${middle} ${y2} ${x2} ${y2}`,
    middle: [middle, (y1 + y2) / 2],
    words: [middle, Math.min(y1, y2)],
    end: [x2, y2, isRight ? 0 : 180],
  };
}

function beside(from, to, aside) {
  const isDown = from.y < to.y;
  const x = from.x + from.width / 2 + aside;
  const y1 = isDown ? from.y + from.height : from.y;
  const y2 = isDown ? to.y : to.y + to.height;
  return { path: `M${x} ${y1}V${y2}`, middle: [x, (y1 + y2) / 2], words: [x, (y1 + y2) / 2], end: [x, y2, isDown ? 90 : 270] };
}

/** Narrow: each line in a lane of its own beside the sites that it passes by, and its words beneath the site elsewhere. */
function round(from, to, x, at) {
  const [far, near] = from.y < to.y ? [from, to] : [to, from];
  const y = far.y + far.height / 2;
  const isDown = far === from;
  const right = far.x + far.width;
  return {
    path: isDown ? `M${right} ${y}H${x}V${near.y}` : `M${x} ${near.y}V${y}H${right}`,
    middle: [x, (y + near.y) / 2],
    words: [far.x + 4, far.y + far.height + 17 + 18 * (at % 2 && !isDown ? 1 : 0)],
    end: isDown ? [x, near.y, 90] : [right, y, 180],
  };
}
