"use strict";

// Filters the items. What is chosen stands in the address after #, so that a filtered page can be sent on.
const items = [...document.querySelectorAll("#items > article")];
const controls = document.querySelector("#controls");
const search = document.querySelector("#search");
const outcomes = [...document.querySelectorAll("button[data-outcome]")];
const duels = [...document.querySelectorAll("button[data-duel]")];
const chosen = { outcome: "all", against: 0, text: "" };
const texts = new Map();

function textOf(item) {
  if (!texts.has(item)) {
    const parts = [...item.querySelectorAll(".said")].map((part) => part.textContent);
    texts.set(item, parts.join("\n").toLowerCase());
  }
  return texts.get(item);
}

function outcomeOf(item) {
  return item.dataset.outcomes.split(" ")[chosen.against];
}

function showChosen() {
  const wanted = chosen.text.trim().toLowerCase();
  const counts = { all: 0, win: 0, tie: 0, loss: 0 };
  let shown = 0;
  for (const item of items) {
    const fits = !wanted || textOf(item).includes(wanted);
    const outcome = outcomeOf(item);
    if (fits) {
      counts.all += 1;
      counts[outcome] += 1;
    }
    item.hidden = !fits || (chosen.outcome !== "all" && chosen.outcome !== outcome);
    shown += item.hidden ? 0 : 1;
  }
  for (const button of outcomes) {
    button.setAttribute("aria-pressed", String(button.dataset.outcome === chosen.outcome));
    button.querySelector(".count").textContent = counts[button.dataset.outcome].toLocaleString("en");
  }
  for (const button of duels) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.duel) === chosen.against));
  }
  const total = items.length.toLocaleString("en");
  document.querySelector("#count").textContent = `Showing ${shown.toLocaleString("en")} of ${total}`;
  document.querySelector("#nothing").hidden = shown > 0;
}

function readAddress() {
  const address = location.hash.slice(1);
  const options = new URLSearchParams(/^item-\d+$/.test(address) ? "" : address);
  const outcome = options.get("outcome");
  const against = Number(options.get("against"));
  chosen.outcome = outcomes.some((button) => button.dataset.outcome === outcome) ? outcome : "all";
  chosen.against = duels.some((button) => Number(button.dataset.duel) === against) ? against : 0;
  chosen.text = options.get("text") ?? "";
  search.value = chosen.text;
  showChosen();
  // An item that a filter had hidden is only now there to be scrolled to.
  if (/^item-\d+$/.test(address)) document.getElementById(address)?.scrollIntoView();
}

function choose(change) {
  Object.assign(chosen, change);
  showChosen();
  const options = new URLSearchParams();
  if (chosen.outcome !== "all") options.set("outcome", chosen.outcome);
  if (chosen.against) options.set("against", String(chosen.against));
  if (chosen.text) options.set("text", chosen.text);
  try {
    history.replaceState(null, "", `#${options}`);
  } catch {
    // A page inside another's frame may not change its address; the filter works all the same.
  }
}

if (controls) {
  controls.hidden = false;
  for (const button of outcomes) button.addEventListener("click", () => choose({ outcome: button.dataset.outcome }));
  for (const button of duels) button.addEventListener("click", () => choose({ against: Number(button.dataset.duel) }));
  search.addEventListener("input", () => choose({ text: search.value }));
  addEventListener("hashchange", readAddress);
  readAddress();
}
