// The way in, for whoever has a key.
import { key } from "./api.js";
import { html, useState } from "./html.js";

export function SignIn({ problem, enter }) {
  const [isBusy, setBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    const typed = event.target.elements.key.value.trim();
    if (!typed) return;
    // A header holds no letter beyond these, and a key has none.
    key.set(typed.replace(/[^\x21-\x7e]/g, ""));
    setBusy(true);
    await enter();
    setBusy(false);
  };
  const needsKey = problem.status === 401;
  return html`<main class="sign-in">
    <form onSubmit=${submit} autocomplete="off">
      <img src="chat/icon.svg" width="48" height="48" alt="" />
      <h1>Quintet</h1>
      ${needsKey
        ? html`<p>Sign in with your key. It stays in this tab, and is gone when you close it.</p>
          <label for="key">Key</label>
          <input id="key" name="key" type="password" placeholder="qk_…" required autofocus spellcheck="false" autocomplete="off"
            aria-describedby=${problem.code === "no_key" ? undefined : "key-problem"} />
          ${problem.code !== "no_key" && html`<p id="key-problem" class="problem" role="alert">This key opens nothing: it is wrong, has expired, or was revoked.</p>`}
          <button class="primary" type="submit" disabled=${isBusy}>Sign in</button>`
        : html`<p class="problem" role="alert">${problem.message}</p>
          <button class="primary" type="button" onClick=${enter}>Try again</button>`}
    </form>
  </main>`;
}
