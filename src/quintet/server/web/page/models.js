// Who can be asked, as the key sees them: their names for people, what they are, whether they can answer now.
import { get } from "./api.js";
import { METHODS } from "./metrics_words.js";

export const AUTO = "auto";
export const BASE = "base";

let places = new Map();

/** Return everyone that can be asked, `auto` first, the bare base last; who cannot answer now says why. */
export async function loadModels() {
  const [departments, listed] = await Promise.all([get("api/models"), get("v1/models")]);
  places = new Map(departments.models.map((one, place) => [one.name, place]));
  const ids = new Set(listed.data.map((one) => one.id));
  const found = departments.models.map((one) => ({
    name: one.name,
    about: one.description,
    detail: detailOf(one),
    ready: ids.has(one.name),
    why: one.problem ?? (ids.has(one.name) ? null : one.status),
    version: one.version,
    isDepartment: true,
  }));
  const auto = {
    name: AUTO, about: "Finds the department that your question is for", detail: "", ready: true, why: null,
  };
  const base = {
    name: BASE, about: "The bare base model, which no department has taught", detail: departments.base.name.split("/").pop(),
    ready: true, why: null,
  };
  return [...(ids.has(AUTO) ? [auto] : []), ...found, ...(ids.has(BASE) ? [base] : [])];
}

function detailOf(model) {
  if (model.status === "elsewhere") return `by ${model.answered_by.join(", ")} · ${model.base}`;
  const versions = model.release.length > 1 ? model.release.map((one) => `${one.version} ${one.share}%`).join(", ") : model.version;
  return [METHODS[model.method] ?? model.method, versions].filter(Boolean).join(" · ");
}

/** Return a department's name as people write it: `hr` as HR, `customer-care` as Customer care. */
export function nameOf(model) {
  const [department, version] = model.split("@");
  const words = department.replace(/[-_]/g, " ");
  const shown = words.length <= 2 ? words.toUpperCase() : words[0].toUpperCase() + words.slice(1);
  return version ? `${shown}@${version}` : shown;
}

/** Return which of eight colours a model has: neighbours in the list differ. */
export function colourOf(model) {
  const place = places.get(model.split("@")[0]);
  return place === undefined ? "none" : String(place % 8);
}
