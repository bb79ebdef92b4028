// What somebody thinks of an answer, in place.
import { get } from "./api.js";
import { html, useState } from "./html.js";
import { IconButton } from "./icons.js";

export function rate(answer, rating, more = {}) {
  return get("api/feedback", { json: { request_id: answer.requestId, rating, ...more } });
}

export function Feedback({ answer, conversations }) {
  const [isOpen, setOpen] = useState(false);
  const [problem, setProblem] = useState(null);
  const give = async (rating, more) => {
    setProblem(null);
    try {
      const said = await rate(answer, rating, more);
      conversations.note(answer, { rating, kept: said.kept, ...more });
      return true;
    } catch (error) {
      setProblem(error.code === "request_not_found" ? "The server does not know this answer any more, so it cannot be rated." : error.message);
      return false;
    }
  };
  const thumb = (rating) => async () => {
    if (await give(rating)) setOpen(true);
  };
  return html`<${IconButton} icon="up" label="A good answer" aria-pressed=${answer.rating === "up"} onClick=${thumb("up")} />
    <${IconButton} icon="down" label="A bad answer" aria-pressed=${answer.rating === "down"} onClick=${thumb("down")} />
    ${problem && html`<p class="problem" role="alert">${problem}</p>`}
    ${isOpen && html`<${Why} answer=${answer} give=${give} close=${() => setOpen(false)} />`}`;
}

function Why({ answer, give, close }) {
  const submit = async (event) => {
    event.preventDefault();
    const { better, comment } = event.target.elements;
    const more = {};
    if (better?.value.trim()) more.better_answer = better.value.trim();
    if (comment.value.trim()) more.comment = comment.value.trim();
    if (Object.keys(more).length === 0 || (await give(answer.rating, more))) close();
  };
  if (!answer.kept) {
    return html`<div class="why"><p role="status">Thank you. This department counts ratings only; comments are not kept.</p>
      <div class="buttons"><button type="button" onClick=${close}>Close</button></div></div>`;
  }
  return html`<form class="why" onSubmit=${submit} onKeyDown=${(event) => event.key === "Escape" && close()}>
    <p role="status">Thank you, it is noted.</p>
    ${answer.rating === "down" && html`<label>A better answer<textarea name="better" rows="3" maxlength="20000" dir="auto" defaultValue=${answer.better_answer ?? ""}></textarea></label>`}
    <label>A comment<textarea name="comment" rows="2" maxlength="2000" dir="auto" defaultValue=${answer.comment ?? ""}></textarea></label>
    <div class="buttons"><button type="button" onClick=${close}>Close</button><button type="submit" class="primary">Send</button></div>
  </form>`;
}
