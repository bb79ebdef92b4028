// Speech, where the browser or the server can: a question spoken, an answer read aloud.
import { get } from "./api.js";

const Recognition = globalThis.SpeechRecognition ?? globalThis.webkitSpeechRecognition;
const canRecord = Boolean(navigator.mediaDevices?.getUserMedia && globalThis.MediaRecorder);

/** Whether a question can be spoken: to the server where it hears, or else to the browser. */
export function canListen(serverHears) {
  return serverHears ? canRecord : Boolean(Recognition);
}

/** Listen until `stop` of what is returned is called; `heard` gets the text, `ended` is called once, with a problem or null. */
export function listen(serverHears, heard, ended) {
  return serverHears ? record(heard, ended) : recognise(heard, ended);
}

function recognise(heard, ended) {
  const recognition = new Recognition();
  let problem = null;
  recognition.lang = navigator.language;
  recognition.continuous = true;
  recognition.onresult = (event) => {
    for (const result of [...event.results].slice(event.resultIndex)) if (result.isFinal) heard(result[0].transcript.trim());
  };
  recognition.onerror = (event) => {
    if (event.error !== "no-speech" && event.error !== "aborted") problem = `The browser cannot listen: ${event.error}.`;
  };
  recognition.onend = () => ended(problem);
  recognition.start();
  return recognition;
}

function record(heard, ended) {
  let recorder = null;
  let isStopped = false;
  const finish = async (chunks, kind) => {
    try {
      const { text } = await get("api/speech/read", { body: new Blob(chunks, { type: kind }), headers: { "Content-Type": kind } });
      heard(text.trim());
      ended(null);
    } catch (error) {
      ended(error.message);
    }
  };
  navigator.mediaDevices.getUserMedia({ audio: true }).then((stream) => {
    const chunks = [];
    recorder = new MediaRecorder(stream);
    recorder.ondataavailable = (event) => chunks.push(event.data);
    recorder.onstop = () => {
      for (const track of stream.getTracks()) track.stop();
      finish(chunks, recorder.mimeType.split(";")[0] || "audio/webm");
    };
    recorder.start();
    if (isStopped) recorder.stop();
  }, () => ended("The microphone cannot be used: allow it for this page."));
  return {
    stop() {
      isStopped = true;
      if (recorder?.state === "recording") recorder.stop();
    },
  };
}

export const canSpeak = "speechSynthesis" in globalThis;

/** Read a text aloud, in place of what was being read; `ended` is called when it is over. */
export function speak(text, ended) {
  speechSynthesis.cancel();
  const said = new SpeechSynthesisUtterance(text.replace(/[*_`#>|]/g, " "));
  said.lang = navigator.language;
  said.onend = ended;
  said.onerror = ended;
  speechSynthesis.speak(said);
}

export function hush() {
  if (canSpeak) speechSynthesis.cancel();
}
