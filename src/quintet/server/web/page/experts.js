// What the experts are worth: versions, what was measured, what the gate says, and which of them answer.
import { get } from "./api.js";
import { Dialog, Loading } from "./dialogs.js";
import { HeatMap, Intervals, LossCurve } from "./drawings.js";
import { html, useEffect, useState } from "./html.js";
import { described, METHODS, shown, whole } from "./metrics_words.js";
import { nameOf } from "./models.js";
import { Dot } from "./picker.js";

export function ExpertsView({ session, menu }) {
  const [found, setFound] = useState(null);
  const [problem, setProblem] = useState(null);
  const [chosen, setChosen] = useState(chosenIn(location.hash));
  const [acting, setActing] = useState(null);
  const load = async () => {
    try {
      const [experts, forgetting] = await Promise.all([get("api/experts"), get("api/forgetting")]);
      setFound({ departments: experts.departments, forgetting });
    } catch (error) {
      setProblem(error.message);
    }
  };
  useEffect(() => {
    load();
    const follow = () => setChosen(chosenIn(location.hash));
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  const acted = () => {
    setActing(null);
    load();
    session.refresh();
  };
  return html`<div class="view"><header class="bar">${menu}<h1>Experts</h1></header>
    <div class="scroller" tabindex="0" role="region" aria-label="Experts"><div class="sheet">
      ${problem && html`<p class="problem" role="alert">${problem}</p>`}
      ${!found && !problem && html`<${Loading} />`}
      ${found?.departments.length === 0 && html`<p class="quiet">None of the departments that your key opens has an expert, or is to have one.</p>`}
      ${found?.departments.map((one) => html`<${Department} key=${one.department} department=${one} chosen=${chosen} isAdmin=${session.isAdmin} act=${setActing} />`)}
      ${found?.forgetting.experts.length > 0 && html`<section><h2>Learnt and forgotten</h2>
        <p class="quiet">Perplexity of the held-out references, as a multiple of the base’s: below ×1 is learnt, above it forgotten. Measured ${moment(found.forgetting.at)}.</p>
        <${HeatMap} matrix=${found.forgetting} /></section>`}
    </div></div>
    ${acting?.kind === "release" && html`<${Release} detail=${acting.detail} done=${acted} close=${() => setActing(null)} />`}
    ${acting?.kind === "rollback" && html`<${Rollback} department=${acting.department} done=${acted} close=${() => setActing(null)} />`}
  </div>`;
}

function chosenIn(hash) {
  return decodeURIComponent(hash.split("/")[2] ?? "");
}

function Department({ department, chosen, isAdmin, act }) {
  const { experts, releases } = department;
  const open = experts.find((one) => one.expert === chosen);
  return html`<section class="department" aria-label=${nameOf(department.department)}>
    <header><${Dot} model=${department.department} /><div><h2>${nameOf(department.department)}</h2><p class="quiet" dir="auto">${department.description}</p></div>
      <p class="live">${releases.length ? html`<span class="detail">answers now</span> <strong>${splitOf(releases[0])}</strong>` : html`<span class="detail">nothing is released</span>`}
        ${isAdmin && releases.length > 1 && html`<button type="button" onClick=${() => act({ kind: "rollback", department })}>Roll back</button>`}</p></header>
    ${experts.length === 0 ? html`<p class="quiet">Not trained yet.</p>` : html`<div class="table versions" tabindex="0" role="region" aria-label=${`Versions of ${nameOf(department.department)}`}><table>
      <thead><tr><th scope="col">Version</th><th scope="col">Method</th><th scope="col" class="number">Rows</th><th scope="col">Trained</th><th scope="col">Base → expert</th><th scope="col">Gate</th><th scope="col" class="number">Answers</th></tr></thead>
      <tbody>${experts.map((one) => html`<tr key=${one.expert} class=${open === one ? "open" : ""}>
        <th scope="row"><a href=${open === one ? "#/experts" : `#/experts/${one.expert}`} aria-expanded=${open === one}>${one.expert}</a></th>
        <td class="method">${METHODS[one.method] ?? one.method}</td><td class="number rows">${whole(one.rows)}</td><td class="trained" title=${moment(one.created_at)}>${day(one.created_at)}</td>
        <td class="worth"><${Score} expert=${one} /></td><td class="gate"><${Gate} passed=${one.gate} /></td><td class="number answers">${one.share ? html`<strong class="good">${one.share}%</strong>` : ""}</td>
      </tr>`)}</tbody></table></div>`}
    ${open && html`<${Detail} key=${open.expert + open.share} name=${open.expert} isAdmin=${isAdmin} act=${act} />`}
    ${releases.length > 0 && html`<details><summary>Releases (${releases.length})</summary><ol class="releases">${releases.map((one, place) => html`<li>
      <strong>${splitOf(one)}</strong> <span class="detail">${moment(one.since)}${one.by ? `, by ${one.by}` : ""}</span>${place === 0 && html` <span class="badge good">live</span>`}${one.forced && html` <span class="badge bad">forced</span>`}${one.reason && html`<div dir="auto">${one.reason}</div>`}</li>`)}</ol></details>`}
  </section>`;
}

function Score({ expert }) {
  if (expert.score === null) return html`<span class="detail">–</span>`;
  const [metric] = described([expert.metric]);
  const share = (value) => `${Math.max(0, Math.min(100, 100 * (value ?? 0) / (metric.whole ?? 1)))}%`;
  return html`<span class="score"><span class="bars" aria-hidden="true"><i style=${{ width: share(expert.base) }}></i><b style=${{ width: share(expert.score) }}></b></span>
    <span>${shown(metric, expert.base)} → <strong>${shown(metric, expert.score)}</strong> <span class="detail">${metric.name}</span></span></span>`;
}

function Gate({ passed }) {
  if (passed === null) return html`<span class="badge">not measured</span>`;
  return passed ? html`<span class="badge good">passes</span>` : html`<span class="badge bad">blocked</span>`;
}

function Detail({ name, isAdmin, act }) {
  const [detail, setDetail] = useState(null);
  const [problem, setProblem] = useState(null);
  useEffect(() => {
    get(`api/experts/${encodeURIComponent(name)}`).then(setDetail, (error) => setProblem(error.message));
  }, [name]);
  if (problem) return html`<p class="problem" role="alert">${problem}</p>`;
  if (!detail) return html`<div class="expert"><${Loading} /></div>`;
  const { evidence } = detail;
  return html`<div class="expert">
    <div class="verdict"><div><h3>${headline(detail)}</h3>${evidence && html`<p class="quiet">Measured ${moment(evidence.at)} on ${evidence.questions} held-out questions.${detail.decides_nothing ? ` A release cannot go by it: ${detail.decides_nothing}.` : ""}</p>`}</div>
      ${isAdmin && detail.share < 100 && html`<button type="button" class="primary" onClick=${() => act({ kind: "release", detail })}>Release ${name}…</button>`}</div>
    ${evidence && html`<${Verdicts} verdicts=${evidence.verdicts} />`}
    ${evidence && Object.entries(evidence.differences).map(([other, difference]) => html`<div key=${other}>
      <h3>Beside ${evidence.names[other] ?? other} <span class="detail">${difference.outcomes.wins} won, ${difference.outcomes.ties} tied, ${difference.outcomes.losses} lost</span></h3>
      <${Intervals} difference=${difference} other=${evidence.names[other] ?? other} /></div>`)}
    <div class="pair">
      <div><h3>Losses of its training</h3><${LossCurve} curve=${detail.curve} /></div>
      <div><h3>What made it</h3><dl class="facts">
        <div><dt>Method</dt><dd>${METHODS[detail.method] ?? detail.method}</dd></div>
        <div><dt>Rows</dt><dd>${whole(detail.rows)} trained${detail.rows_held_out === null ? "" : `, ${whole(detail.rows_held_out)} held out`}</dd></div>
        <div><dt>Base</dt><dd>${detail.base_model}</dd></div>
        ${detail.parent && html`<div><dt>Started from</dt><dd>${detail.parent}</dd></div>`}
        <div><dt>Training took</dt><dd>${duration(detail.seconds)}</dd></div>
        <div><dt>Feedback</dt><dd>${detail.feedback.up} good, ${detail.feedback.down} bad</dd></div>
        <div><dt>Digest</dt><dd><code>${detail.digest.slice(0, 12)}</code></dd></div>
      </dl></div>
    </div>
    ${evidence && html`<details><summary>All scores</summary><${Scores} evidence=${evidence} /></details>`}
  </div>`;
}

function headline({ expert, evidence, decides_nothing: why }) {
  if (!evidence) return `${expert} was not measured yet`;
  if (why && evidence.passed) return `The gate let ${expert} through, and must look again`;
  if (evidence.passed) return `The gate lets ${expert} through`;
  const count = evidence.verdicts.filter((one) => !one.passed).length;
  return `The gate blocks ${expert}: ${count} of ${evidence.verdicts.length} rules ${count === 1 ? "does" : "do"}`;
}

function Verdicts({ verdicts }) {
  return html`<ul class="verdicts">${[...verdicts].sort((a, b) => a.passed - b.passed).map((one) => html`<li class=${one.passed ? "good" : "bad"}><span aria-hidden="true">${one.passed ? "✓" : "✕"}</span>
    <span><strong>${one.rule.replace(/_/g, " ")}</strong><span class="hidden">${one.passed ? " passes" : " blocks"}</span>: ${one.said}</span></li>`)}</ul>`;
}

function Scores({ evidence }) {
  const who = Object.keys(evidence.names);
  const metrics = described(who.flatMap((key) => Object.keys(evidence.scores[key] ?? {})));
  return html`<div class="table" tabindex="0" role="region" aria-label="All scores"><table><thead><tr><th scope="col">Metric</th>${who.map((key) => html`<th scope="col" class="number">${evidence.names[key]}</th>`)}</tr></thead>
    <tbody>${metrics.map((metric) => html`<tr><th scope="row">${metric.name}</th>${who.map((key) => html`<td class="number">${shown(metric, evidence.scores[key]?.[metric.key])}</td>`)}</tr>`)}</tbody></table></div>`;
}

function Release({ detail, done, close }) {
  const [problem, setProblem] = useState(null);
  const blocked = !detail.evidence || !detail.evidence.passed || detail.decides_nothing !== null;
  const submit = async (event) => {
    event.preventDefault();
    const { share, reason, force } = event.target.elements;
    const json = { department: detail.department, version: detail.version, share: Number(share.value), force: force?.checked ?? false };
    if (reason.value.trim()) json.reason = reason.value.trim();
    try {
      await get("admin/releases", { json });
      done();
    } catch (error) {
      setProblem(error.message);
    }
  };
  return html`<${Dialog} title=${`Release ${detail.expert}`} close=${close}><form class="act" onSubmit=${submit}>
    <p>${headline(detail)}.${detail.decides_nothing ? ` ${detail.decides_nothing}.` : ""}</p>
    ${detail.evidence && html`<${Verdicts} verdicts=${detail.evidence.verdicts} />`}
    <label>Percent of the conversations<input name="share" type="number" min="1" max="100" value="100" required /></label>
    <label>Why, for the history<input name="reason" maxlength="500" dir="auto" /></label>
    ${blocked && html`<label class="check"><input name="force" type="checkbox" /> Release it although the gate does not let it through; this wants a reason</label>`}
    ${problem && html`<p class="problem" role="alert">${problem}</p>`}
    <div class="buttons"><button type="button" onClick=${close}>Cancel</button><button type="submit" class="primary">Release</button></div>
  </form><//>`;
}

function Rollback({ department, done, close }) {
  const [problem, setProblem] = useState(null);
  const submit = async (event) => {
    event.preventDefault();
    const reason = event.target.elements.reason.value.trim();
    try {
      await get("admin/rollbacks", { json: { department: department.department, ...(reason ? { reason } : {}) } });
      done();
    } catch (error) {
      setProblem(error.message);
    }
  };
  return html`<${Dialog} title=${`Roll ${nameOf(department.department)} back`} close=${close}><form class="act" onSubmit=${submit}>
    <p>${splitOf(department.releases[0])} answers now. What answered before its release answers again, from the next question on.</p>
    <label>Why, for the history<input name="reason" maxlength="500" dir="auto" /></label>
    ${problem && html`<p class="problem" role="alert">${problem}</p>`}
    <div class="buttons"><button type="button" onClick=${close}>Cancel</button><button type="submit" class="primary">Roll back</button></div>
  </form><//>`;
}

function splitOf(release) {
  return release.split.length === 1 ? release.split[0].version : release.split.map((one) => `${one.share}% ${one.version}`).join(", ");
}

function moment(text) {
  return text ? new Date(text).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" }) : "–";
}

function day(text) {
  return text ? new Date(text).toLocaleDateString(undefined, { dateStyle: "medium" }) : "–";
}

function duration(seconds) {
  return seconds < 120 ? `${Math.round(seconds)} s` : seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}
