// Prometheus's text format, and what can be read off it. Draws nothing.

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

/** Return the samples of a text: name, labels, value. */
export function parse(text) {
  return text.split("\n").flatMap((line) => {
    const found = line.startsWith("#") ? null : LINE.exec(line);
    if (!found) return [];
    const labels = Object.fromEntries([...(found[2] ?? "").matchAll(LABEL)].map(([, name, value]) => [name, value]));
    return [{ name: found[1], labels, value: Number(found[3]) }];
  });
}

function matching(sample, name, wanted = {}) {
  return sample.series.filter((one) => one.name === name && Object.entries(wanted).every(([key, value]) => one.labels[key] === value));
}

/** Return the sum over all series of a name. */
export function summed(sample, name, wanted) {
  return matching(sample, name, wanted).reduce((total, one) => total + one.value, 0);
}

/** Return by how much a counter rose in a second; null where it cannot be told. */
export function rate(sample, before, name, wanted) {
  if (!before || sample.at === before.at) return null;
  const risen = summed(sample, name, wanted) - summed(before, name, wanted);
  return risen < 0 ? null : risen / ((sample.at - before.at) / 1000);
}

/** Return which share of one counter the other is; null where nothing was counted. */
export function share(sample, part, all) {
  const total = summed(sample, all);
  return total ? summed(sample, part) / total : null;
}

/** Return the value that a share of a histogram is below, within its bucket evenly; null where nothing was seen. */
export function quantile(sample, name, wanted, labels) {
  const buckets = new Map();
  for (const one of matching(sample, `${name}_bucket`, labels)) {
    const bound = one.labels.le === "+Inf" ? Infinity : Number(one.labels.le);
    buckets.set(bound, (buckets.get(bound) ?? 0) + one.value);
  }
  const sorted = [...buckets].sort((a, b) => a[0] - b[0]);
  const total = sorted.at(-1)?.[1] ?? 0;
  if (!total) return null;
  let [below, counted] = [0, 0];
  for (const [bound, count] of sorted) {
    if (count >= wanted * total) return bound === Infinity ? below : below + (bound - below) * (wanted * total - counted) / (count - counted || 1);
    [below, counted] = [bound, count];
  }
  return below;
}
