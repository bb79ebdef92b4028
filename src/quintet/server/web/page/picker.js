// Whom to ask: a list that keyboards and screen readers know as such.
import { html, useEffect, useLayoutEffect, useRef, useState } from "./html.js";
import { Icon } from "./icons.js";
import { AUTO, colourOf, nameOf } from "./models.js";

export function Dot({ model }) {
  return html`<span class=${`dot colour-${colourOf(model)}`} aria-hidden="true">${model === AUTO ? "✦" : nameOf(model)[0]}</span>`;
}

export function Picker({ models, value, choose, label = "Whom to ask", id = "picker" }) {
  const [isOpen, setOpen] = useState(false);
  const [active, setActive] = useState(0);
  const whole = useRef(null);
  const list = useRef(null);
  const chosen = models.find((one) => one.name === value);
  const ready = models.filter((one) => one.ready);

  // Before anything else happens: the next key is for the list already.
  useLayoutEffect(() => {
    if (!isOpen) return undefined;
    setActive(Math.max(0, ready.findIndex((one) => one.name === value)));
    list.current.focus();
    const place = () => keepInside(list.current);
    const outside = (event) => whole.current.contains(event.target) || setOpen(false);
    place();
    addEventListener("resize", place);
    addEventListener("pointerdown", outside);
    return () => {
      removeEventListener("resize", place);
      removeEventListener("pointerdown", outside);
    };
  }, [isOpen]);
  useEffect(() => {
    if (isOpen) list.current.querySelector(".active")?.scrollIntoView({ block: "nearest" });
  }, [active, isOpen]);

  const shut = () => {
    setOpen(false);
    whole.current.querySelector("button").focus();
  };
  const take = (model) => {
    shut();
    choose(model.name);
  };
  const onKey = (event) => {
    const steps = { ArrowDown: 1, ArrowUp: -1, Home: -ready.length, End: ready.length };
    if (event.key in steps) setActive(Math.min(ready.length - 1, Math.max(0, active + steps[event.key])));
    else if (event.key === "Enter" || event.key === " ") take(ready[active]);
    else if (event.key === "Escape") shut();
    else if (event.key === "Tab") return setOpen(false);
    else if (event.key.length === 1) {
      const found = ready.findIndex((one) => nameOf(one.name).toLowerCase().startsWith(event.key.toLowerCase()));
      if (found >= 0) setActive(found);
    } else return undefined;
    event.preventDefault();
    event.stopPropagation();
    return undefined;
  };
  return html`<div class="picker" ref=${whole}>
    <button type="button" id=${id} class="picked" aria-haspopup="listbox" aria-expanded=${isOpen} aria-label=${`${label}: ${chosen ? nameOf(chosen.name) : "nobody"}`}
      onClick=${() => setOpen(!isOpen)}>
      ${chosen && html`<${Dot} model=${chosen.name} />`}
      <span>${chosen ? nameOf(chosen.name) : "Nobody yet"}</span><${Icon} name="chevron" />
    </button>
    ${isOpen && html`<div class="options" role="listbox" tabindex="0" aria-label=${label} ref=${list} onKeyDown=${onKey}
      aria-activedescendant=${ready[active] ? `${id}-${ready[active].name}` : undefined}>
      ${models.map((one) => html`<div key=${one.name} role="option" id=${`${id}-${one.name}`} aria-selected=${one.name === value} aria-disabled=${!one.ready}
        class=${`option ${one.ready && ready[active] === one ? "active" : ""}`}
        onClick=${() => one.ready && take(one)} onPointerMove=${() => one.ready && setActive(ready.indexOf(one))}>
        <${Dot} model=${one.name} />
        <span class="words"><strong>${nameOf(one.name)}</strong><span class="about" dir="auto">${one.about}</span>
          ${one.ready ? one.detail && html`<span class="detail">${one.detail}</span>` : html`<span class="detail why">${one.why}</span>`}</span>
        ${one.name === value && html`<${Icon} name="check" />`}
      </div>`)}
    </div>`}
  </div>`;
}

const MARGIN = 8;

/** Move an element from beyond the window's end back into it. */
function keepInside(element) {
  element.style.translate = "";
  const beyond = element.getBoundingClientRect().right + MARGIN - document.documentElement.clientWidth;
  if (beyond > 0) element.style.translate = `${-beyond}px`;
}
