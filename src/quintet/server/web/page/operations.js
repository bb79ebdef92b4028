// How the server is doing, from the numbers that Prometheus reads: the last minutes, while the page is looked at.
import { get, send } from "./api.js";
import { Loading } from "./dialogs.js";
import { Sparkline } from "./drawings.js";
import { html, useEffect, useState } from "./html.js";
import { whole } from "./metrics_words.js";
import { nameOf } from "./models.js";
import { parse, rate, share, summed, quantile } from "./prometheus.js";
import { Dot } from "./picker.js";

const EVERY_MS = 2000;
const KEPT = 90;
const KEYS_EVERY = 5;

export function OperationsView({ menu }) {
  const [samples, setSamples] = useState([]);
  const [keys, setKeys] = useState(null);
  const [health, setHealth] = useState(null);
  const [problem, setProblem] = useState(null);
  useEffect(() => {
    let timer = null;
    let count = 0;
    const look = async () => {
      try {
        const text = await (await send("metrics")).text();
        const sample = { at: performance.now(), series: parse(text) };
        setSamples((before) => [...before, sample].slice(-KEPT));
        if (count++ % KEYS_EVERY === 0) {
          setKeys((await get("admin/keys")).keys);
          setHealth(await get("health"));
        }
        setProblem(null);
      } catch (error) {
        setProblem(error.message);
      }
      timer = setTimeout(look, EVERY_MS);
    };
    look();
    return () => clearTimeout(timer);
  }, []);
  const now = samples.at(-1);
  return html`<div class="view"><header class="bar">${menu}<h1>Operations</h1>${health && html`<span class="detail one-line">${health.gpu_name ?? health.device} · in memory: ${health.loaded_models.join(", ") || "no expert"}</span>`}</header>
    <div class="scroller" tabindex="0" role="region" aria-label="Operations"><div class="sheet">
      ${problem && html`<p class="problem" role="alert">${problem}</p>`}
      ${!now && !problem && html`<${Loading} />`}
      ${now && html`<ul class="tiles">${TILES.map((tile) => html`<${Tile} key=${tile.name} tile=${tile} samples=${samples} />`)}</ul>`}
      ${now && html`<${Departments} samples=${samples} />`}
      ${now && html`<${Refusals} sample=${now} />`}
      ${keys && html`<${Keys} keys=${keys} />`}
    </div></div></div>`;
}

const seconds = (value) => (value < 1 ? `${Math.round(1000 * value)} ms` : `${value.toFixed(1)} s`);
const percent = (value) => `${Math.round(100 * value)}%`;

const TILES = [
  { name: "Answering", show: whole, of: (one) => summed(one, "vllm:num_requests_running") },
  { name: "Waiting", show: whole, of: (one) => summed(one, "vllm:num_requests_waiting") },
  { name: "Tokens a second", show: whole, of: (one, before) => rate(one, before, "vllm:generation_tokens_total") },
  { name: "Questions a minute", show: whole, of: (one, before) => scaled(rate(one, before, "vllm:request_success_total"), 60) },
  { name: "First token, median", show: seconds, of: (one) => quantile(one, "vllm:time_to_first_token_seconds", 0.5) },
  { name: "To the end, 95% within", show: seconds, of: (one) => quantile(one, "vllm:e2e_request_latency_seconds", 0.95) },
  { name: "Answers from the cache", show: percent, of: (one) => share(one, "quintet_response_cache_hits_total", "quintet_response_cache_queries_total") },
  { name: "Prompt tokens reused", show: percent, of: (one) => share(one, "vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total") },
  { name: "KV cache in use", show: percent, of: (one) => summed(one, "vllm:kv_cache_usage_perc") },
  { name: "Experts in memory", show: whole, of: (one) => summed(one, "quintet_experts_loaded") },
];

function scaled(value, factor) {
  return value === null ? null : value * factor;
}

function Tile({ tile, samples }) {
  const values = samples.map((one, place) => tile.of(one, samples[place - 1]));
  const value = values.at(-1);
  return html`<li class="tile"><span class="quiet">${tile.name}</span><strong>${value === null ? "–" : tile.show(value)}</strong><${Sparkline} values=${values} /></li>`;
}

function Departments({ samples }) {
  const now = samples.at(-1);
  const before = samples.at(-Math.min(samples.length, 6));
  const names = [...new Set(now.series.filter((one) => one.name === "vllm:num_requests_running").map((one) => one.labels.department))];
  const cell = (value, show) => html`<td class="number">${value === null ? "–" : show(value)}</td>`;
  return html`<section><h2>Departments</h2><div class="table" tabindex="0" role="region" aria-label="Departments"><table>
    <thead><tr><th scope="col">Department</th>${["Answering", "Waiting", "Tokens a second", "Answers", "First token", "95% within"].map((name) => html`<th scope="col" class="number">${name}</th>`)}</tr></thead>
    <tbody>${names.map((department) => html`<tr key=${department}><th scope="row"><span class="named"><${Dot} model=${department} />${nameOf(department)}</span></th>
      ${cell(summed(now, "vllm:num_requests_running", { department }), whole)}
      ${cell(summed(now, "vllm:num_requests_waiting", { department }), whole)}
      ${cell(rate(now, before === now ? undefined : before, "vllm:generation_tokens_total", { department }), whole)}
      ${cell(summed(now, "vllm:request_success_total", { department }), whole)}
      ${cell(quantile(now, "vllm:time_to_first_token_seconds", 0.5, { department }), seconds)}
      ${cell(quantile(now, "vllm:e2e_request_latency_seconds", 0.95, { department }), seconds)}</tr>`)}</tbody></table></div></section>`;
}

function Refusals({ sample }) {
  const counts = new Map();
  for (const { labels, value } of sample.series.filter((one) => one.name === "quintet_rejections_total" && one.value > 0)) {
    counts.set(labels.reason, (counts.get(labels.reason) ?? 0) + value);
  }
  if (!counts.size) return null;
  return html`<section><h2>Refused since the start</h2><ul class="refusals">${[...counts].sort((a, b) => b[1] - a[1]).map(([reason, count]) => html`<li key=${reason}><code>${reason}</code> ${whole(count)}</li>`)}</ul></section>`;
}

function Keys({ keys }) {
  if (!keys.length) return html`<section><h2>Keys</h2><p class="quiet">There are none.</p></section>`;
  return html`<section><h2>Keys</h2><div class="table" tabindex="0" role="region" aria-label="Keys"><table>
    <thead><tr><th scope="col">Key</th><th scope="col">Opens</th><th scope="col">Until</th><th scope="col">Used of its budgets</th></tr></thead>
    <tbody>${keys.map((one) => html`<tr key=${one.key}><th scope="row"><span dir="auto">${one.name ?? ""}</span> <code class="detail">${one.key}</code></th>
      <td class="wraps">${opens(one)}</td><td>${one.expires_at ? new Date(one.expires_at).toLocaleDateString(undefined, { dateStyle: "medium" }) : "it is revoked"}</td>
      <td class="wraps">${one.budgets.length ? one.budgets.map((budget) => html`<${Budget} key=${budget.unit + budget.period} budget=${budget} />`) : html`<span class="detail">without limit</span>`}</td></tr>`)}</tbody></table></div></section>`;
}

function opens({ departments, roles }) {
  const named = departments.includes("*") ? "everything" : departments.map(nameOf).join(", ");
  return [named, roles.includes("admin") ? "administers" : ""].filter(Boolean).join("; ");
}

function Budget({ budget }) {
  const text = `${whole(budget.used)} of ${whole(budget.allowed)} ${budget.unit} a ${budget.period}`;
  return html`<label class="budget"><meter min="0" max=${budget.allowed} high=${0.9 * budget.allowed} value=${budget.used}></meter> ${text}</label>`;
}
