// Small drawings of numbers: intervals, losses, what was forgotten, the last minutes. Each says in words what it shows.
import { html } from "./html.js";
import { nameOf } from "./models.js";
import { described, shown, shownSigned } from "./metrics_words.js";

const WIDTH = 420;

/** Differences with their intervals on one axis; what has zero in it says nothing. */
export function Intervals({ difference, other }) {
  const rows = described(Object.keys(difference.intervals))
    .filter((metric) => metric.whole !== null)
    .map((metric) => ({ metric, ...scaled(difference.intervals[metric.key], metric.whole) }))
    .filter((row) => row.mean !== null);
  if (!rows.length) return null;
  const low = Math.min(0, ...rows.map((row) => row.low));
  const high = Math.max(0, ...rows.map((row) => row.high));
  const place = (value) => 100 * (value - low) / (high - low || 1);
  return html`<div class="intervals" role="table" aria-label=${`Differences to ${other}, with 95% intervals`}>
    ${rows.map(({ metric, mean, low: from, high: to }) => {
      const reading = from * metric.better > 0 && to * metric.better > 0 ? "better" : from * metric.better < 0 && to * metric.better < 0 ? "worse" : "unclear";
      const interval = difference.intervals[metric.key];
      return html`<div role="row" class=${reading}>
        <span role="rowheader">${metric.name}</span>
        <span role="cell" class="whisker" aria-hidden="true"><i class="zero" style=${{ left: `${place(0)}%` }}></i>
          <i class="span" style=${{ left: `${place(from)}%`, width: `${place(to) - place(from)}%` }}></i><i class="mean" style=${{ left: `${place(mean)}%` }}></i></span>
        <span role="cell" class="number">${shownSigned(metric, interval.mean)} <span class="detail">${shown(metric, interval.low)} to ${shown(metric, interval.high)}</span></span>
        <span role="cell" class="reading">${reading}</span>
      </div>`;
    })}
  </div>`;
}

function scaled({ mean, low, high }, whole) {
  return mean === null ? { mean } : { mean: mean / whole, low: low / whole, high: high / whole };
}

/** The losses of a run: on its own rows a line, on held-out ones dots. */
export function LossCurve({ curve }) {
  const height = 190;
  const points = [...curve.training, ...curve.held_out];
  if (!points.length) return html`<p class="quiet">The registry has no losses of it.</p>`;
  const most = Math.max(...points.map(([, loss]) => loss));
  const last = Math.max(...points.map(([step]) => step));
  const x = (step) => 44 + (WIDTH - 60) * step / (last || 1);
  const y = (loss) => height - 28 - (height - 44) * loss / (most || 1);
  const best = curve.held_out.reduce((found, point) => (!found || point[1] < found[1] ? point : found), null);
  const said = `Training loss ${ends(curve.training)}${best ? `; lowest held-out loss ${best[1].toFixed(3)} at step ${best[0]}` : ""}`;
  return html`<figure class="curve"><svg viewBox=${`0 0 ${WIDTH} ${height}`} role="img" aria-label=${said}>
    ${[0, most / 2, most].map((loss) => html`<g><line class="grid" x1="44" x2=${WIDTH - 16} y1=${y(loss)} y2=${y(loss)} /><text x="38" y=${y(loss) + 4} text-anchor="end">${loss.toFixed(most < 1 ? 2 : 1)}</text></g>`)}
    ${[0, last].map((step) => html`<text x=${x(step)} y=${height - 8} text-anchor=${step ? "end" : "start"}>${step ? `step ${step}` : "0"}</text>`)}
    <polyline class="training" points=${curve.training.map(([step, loss]) => `${x(step)},${y(loss)}`).join(" ")} />
    ${curve.held_out.map(([step, loss]) => html`<circle class=${best && step === best[0] ? "held best" : "held"} cx=${x(step)} cy=${y(loss)} r=${best && step === best[0] ? 5 : 3.5} />`)}
  </svg><figcaption><span class="key training">training</span>${best && html`<span class="key held">held-out, lowest ${best[1].toFixed(3)} at step ${best[0]}</span>`}</figcaption></figure>`;
}

function ends(series) {
  return series.length ? `from ${series[0][1].toFixed(2)} to ${series.at(-1)[1].toFixed(2)}` : "not logged";
}

const STEPS = 4;

/** Every expert on every set: perplexity as a multiple of the base's. */
export function HeatMap({ matrix }) {
  return html`<div class="table" tabindex="0" role="region" aria-label="What each expert learnt and forgot"><table class="heat">
    <thead><tr><td></td>${matrix.sets.map((name) => html`<th scope="col">${name === "general" ? "General" : nameOf(name)}</th>`)}</tr></thead>
    <tbody>
      <tr><th scope="row">base</th>${matrix.base.map((value) => html`<td class="heat-same">${value === null ? "–" : value.toFixed(1)}</td>`)}</tr>
      ${matrix.experts.map((expert, row) => html`<tr><th scope="row">${expert}</th>${matrix.perplexity[row].map((value, column) => {
        const ratio = value === null || !matrix.base[column] ? null : value / matrix.base[column];
        return html`<td class=${`heat-${shade(ratio)}`}>${ratio === null ? "–" : `×${ratio < 0.1 ? ratio.toPrecision(1) : ratio.toFixed(2)}`}</td>`;
      })}</tr>`)}
    </tbody></table></div>`;
}

function shade(ratio) {
  if (ratio === null) return "none";
  const step = Math.max(-STEPS, Math.min(STEPS, Math.round(STEPS * Math.log2(ratio))));
  return step === 0 ? "same" : `${step < 0 ? "better" : "worse"}-${Math.abs(step)}`;
}

/** The last minutes of a number. */
export function Sparkline({ values }) {
  const width = 160;
  const height = 36;
  const known = values.filter((value) => value !== null);
  const most = Math.max(...known, 1e-9);
  const x = (place) => width * place / Math.max(1, values.length - 1);
  const y = (value) => height - 2 - (height - 12) * value / most;
  const points = values.flatMap((value, place) => (value === null ? [] : [`${x(place).toFixed(1)},${y(value).toFixed(1)}`]));
  return html`<svg class="sparkline" viewBox=${`0 0 ${width} ${height}`} preserveAspectRatio="none" aria-hidden="true">
    ${points.length > 0 && html`<polygon points=${`${points[0].split(",")[0]},${height} ${points.join(" ")} ${points.at(-1).split(",")[0]},${height}`} />`}<polyline points=${points.join(" ")} /></svg>`;
}
