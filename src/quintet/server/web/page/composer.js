// The place to write a question, to put files beside it, and to speak it.
import { KINDS, noteOn, readFile } from "./files.js";
import { html, useEffect, useRef, useState } from "./html.js";
import { Icon, IconButton } from "./icons.js";
import { canListen, listen } from "./speech.js";

/** `takesFiles` and `hears` say whether files and speech go with a question; `taken` how many tokens others take. */
export function Composer({ send, stop, isRunning, draft, setDraft, placeholder, isReady, takesFiles, hears, taken = 0 }) {
  const area = useRef(null);
  const [files, setFiles] = useFiles(taken);
  const isReading = files.some((file) => file.state === "reading");
  const canSend = (draft.trim() !== "" || files.some((file) => file.state === "read")) && isReady && !isRunning && !isReading;
  useEffect(() => {
    // On a phone it would bring up the keyboard.
    if (matchMedia("(hover: hover)").matches) area.current.focus();
  }, []);
  const submit = (event) => {
    event.preventDefault();
    if (!canSend) return;
    send(draft.trim(), files.filter((file) => file.state === "read").map(({ name, text, tokens, tokens_left_out, notes }) => ({ name, text, tokens, tokens_left_out, notes })));
    setDraft("");
    setFiles.clear();
  };
  const onKey = (event) => {
    // While a word is being composed, Enter takes the word.
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
    if (event.key === "ArrowUp" && draft === "") {
      const edits = document.querySelectorAll(".edit-question");
      edits[edits.length - 1]?.click();
    }
  };
  const drop = useDropping(takesFiles ? setFiles.add : null);
  const paste = (event) => takesFiles && event.clipboardData.files.length > 0 && (event.preventDefault(), setFiles.add(event.clipboardData.files));
  return html`<form class=${`composer ${drop.isOver ? "over" : ""}`} onSubmit=${submit} ...${drop.handlers}>
    ${files.length > 0 && html`<ul class="files">${files.map((file) => html`<li key=${file.id} class=${file.state}>
      <${Icon} name="clip" /><span><strong dir="auto">${file.name}</strong> <span class=${file.tokens_left_out || file.state === "failed" ? "bad" : "detail"} role=${file.state === "reading" ? undefined : "status"}>${noteOn(file)}</span></span>
      <${IconButton} icon="close" label=${`Without ${file.name}`} onClick=${() => setFiles.remove(file)} /></li>`)}</ul>`}
    ${takesFiles && html`<label class="icon-button round attach" title="Put files beside it"><${Icon} name="clip" /><span class="hidden">Put files beside it</span>
      <input type="file" multiple accept=${KINDS} class="hidden" onChange=${(event) => { setFiles.add(event.target.files); event.target.value = ""; }} /></label>`}
    <label class="hidden" for="question">Your question</label>
    <textarea id="question" ref=${area} rows="1" dir="auto" value=${draft} onInput=${(event) => setDraft(event.target.value)} onKeyDown=${onKey} onPaste=${paste}
      placeholder=${placeholder}></textarea>
    ${hears !== undefined && canListen(hears) && html`<${Microphone} hears=${hears} heard=${(text) => setDraft((before) => `${before} ${text}`.trim())} />`}
    ${isRunning
      ? html`<${IconButton} icon="stop" label="Stop (Esc)" class="round stop" onClick=${stop} />`
      : html`<button type="submit" class="icon-button round" aria-label="Send" title="Send" disabled=${!canSend}><${Icon} name="send" /></button>`}
  </form>`;
}

/** The files beside a question; those that are read first take the room of those after them. */
function useFiles(taken) {
  const [files, setFiles] = useState([]);
  const known = useRef(files);
  const change = (next) => {
    known.current = next(known.current);
    setFiles(known.current);
  };
  const act = {
    add: async (chosen) => {
      for (const file of chosen) {
        const others = known.current.reduce((total, one) => total + (one.tokens ?? 0), taken);
        await new Promise((resolve) => {
          const reading = readFile(file, others, (read) => {
            change((now) => now.map((one) => (one.id === reading.id ? { ...read, id: reading.id } : one)));
            resolve();
          });
          change((now) => [...now, reading]);
        });
      }
    },
    remove: (file) => change((now) => now.filter((one) => one.id !== file.id)),
    clear: () => change(() => []),
  };
  return [files, act];
}

function useDropping(add) {
  const [isOver, setOver] = useState(false);
  if (!add) return { isOver: false, handlers: {} };
  const over = (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    setOver(true);
  };
  const drop = (event) => {
    event.preventDefault();
    setOver(false);
    add([...event.dataTransfer.files]);
  };
  return { isOver, handlers: { onDragOver: over, onDragLeave: () => setOver(false), onDrop: drop } };
}

function Microphone({ hears, heard }) {
  const [listening, setListening] = useState(null);
  const [problem, setProblem] = useState(null);
  useEffect(() => () => listening?.stop(), [listening]);
  const toggle = () => {
    if (listening) {
      listening.stop();
      return;
    }
    setProblem(null);
    setListening(listen(hears, heard, (wrong) => {
      setProblem(wrong);
      setListening(null);
    }));
  };
  return html`<${IconButton} icon="mic" label=${listening ? "Stop listening" : "Dictate"} aria-pressed=${listening !== null} class=${`round ${listening ? "listening" : ""}`} onClick=${toggle} />
    ${problem && html`<p class="problem" role="alert">${problem}</p>`}`;
}
