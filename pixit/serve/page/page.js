// The page of a server: recordings are dropped on it, or a microphone is listened to.

import { Job, untilRetry } from "./jobs.js";
import { Live } from "./live.js";

const part = (id) => document.getElementById(id);
const root = document.documentElement;

// What is asked of the server, with the token if it wants one; it and the jobs are remembered as long as the tab is open.
const server = {
  token: sessionStorage.getItem("token"),
  jobs: new Map(),

  // Asks until there is an answer: a server that is out of reach, or has too much to do, is asked again.
  async ask(path, method = "GET") {
    for (;;) {
      let later = null;
      try {
        const headers = this.token ? { Authorization: `Bearer ${this.token}` } : {};
        const answer = await fetch(path, { method, headers });
        const { status } = answer;
        if (status === 401) { await askForToken(); continue; }
        if (status !== 429 && status !== 503) return { status, told: status === 204 ? {} : await answer.json() };
        later = answer.headers.get("Retry-After");
      } catch { /* as if it had said nothing */ }
      await untilRetry(later);
    }
  },

  askForToken,

  remember(job) {
    this.jobs.set(job.id, job.name);
    sessionStorage.setItem("jobs", JSON.stringify([...this.jobs]));
  },

  forget(job) {
    this.jobs.delete(job.id);
    sessionStorage.setItem("jobs", JSON.stringify([...this.jobs]));
  },
};

function complain(reason) {
  part("error").textContent = reason ?? "";
  part("error").hidden = !reason;
}

function askForToken() {
  const dialog = part("ask-token");
  if (!dialog.open) dialog.showModal();
  return new Promise((done) => dialog.addEventListener("close", () => {
    server.token = part("token").value;
    sessionStorage.setItem("token", server.token);
    done();
  }, { once: true }));
}

const shown = [];

async function upload(file) {
  complain(null);
  const options = {};
  if (part("num-speakers").value) options.num_speakers = part("num-speakers").value;
  const job = new Job(server, file.name);
  shown.push(job);
  await job.send(file, options);
}

let live = null;

async function listen() {
  complain(null);
  const button = part("listen");
  if (live) { live.stop(); button.disabled = true; button.textContent = "Finishing…"; return; }
  live = new Live(server, (reason) => {
    complain(reason);
    shown.push(live);
    live = null;
    button.disabled = false;
    button.setAttribute("aria-pressed", "false");
    button.textContent = "Start the microphone";
  });
  try {
    const { value, max } = part("latency");
    await live.start(value === max ? undefined : Number(value));  // the longest is the server's own
    button.setAttribute("aria-pressed", "true");
    button.textContent = "Stop";
  } catch (error) {
    live = null;
    complain(`The microphone cannot be used (${error.message}).`);
  }
}

part("choose").addEventListener("click", () => part("file").click());
part("file").addEventListener("change", (event) => {
  for (const file of event.target.files) upload(file);
  event.target.value = "";
});
const drop = part("drop");
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.toggle("is-over", kind === "dragover");
    if (kind === "drop") for (const file of event.dataTransfer.files) upload(file);
  });
}
part("listen").addEventListener("click", listen);
part("latency").addEventListener("input", (event) => { part("latency-shown").value = event.target.value; });

function turnTheme() {
  const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
  redraw();
}

function redraw() {
  for (const one of shown) one.redraw?.();
  live?.redraw();
}

part("theme").addEventListener("click", turnTheme);
part("help-open").addEventListener("click", () => part("help").showModal());
part("help-close").addEventListener("click", () => part("help").close());
window.addEventListener("resize", redraw);
const keys = {
  u: () => part("choose").click(),
  r: () => part("listen").click(),
  t: turnTheme,
  "?": () => part("help").showModal(),
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, dialog[open]")) return;
  const act = keys[event.key];
  if (act) { event.preventDefault(); act(); }
});

for (const [id, name] of JSON.parse(sessionStorage.getItem("jobs") ?? "[]")) {
  const job = new Job(server, name, id);
  server.jobs.set(id, name);
  shown.push(job);
  job.follow();
}
// whether a token is wanted is known before anything is sent
if ((await fetch("metrics", { headers: server.token ? { Authorization: `Bearer ${server.token}` } : {} })).status === 401) await askForToken();
