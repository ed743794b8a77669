// Recordings: sent, waited for, shown.

import { clock, draw, link, player, speakerRow } from "./timeline.js";

const POLL_MS = 700, POLL_JOB_MS = 300, MOST_POLL_MS = 10_000, RETRY_S = 2;
const STEPS = { segmentation: "listening", embeddings: "comparing voices", separations: "writing tracks" };

let numFollowed = 0;

// A server that refuses says when it may be asked again; one that is out of reach does not.
export const untilRetry = (seconds) => new Promise((done) => setTimeout(done, 1000 * (Number(seconds) || RETRY_S)));

// How long until a job is asked for again: jobs that take long are asked for less often, and so are many.
function untilNext(since) {
  const waited = Math.min(MOST_POLL_MS, (Date.now() - since) / 20);
  return new Promise((done) => setTimeout(done, Math.max(POLL_MS, waited, POLL_JOB_MS * numFollowed)));
}

export class Job {
  constructor(server, name, id = null) {
    [this.server, this.name, this.id] = [server, name, id];
    const part = document.getElementById("job-template").content.cloneNode(true);
    this.card = part.querySelector(".job");
    this.part = (selector) => this.card.querySelector(selector);
    this.part("h2").textContent = name;
    this.part(".remove").addEventListener("click", () => this.remove());
    document.getElementById("jobs").prepend(part);
  }

  async send(file, options) {
    this.request = new XMLHttpRequest();  // unlike fetch, it tells how far it is
    const [request, query] = [this.request, new URLSearchParams(options)];
    request.open("POST", `v1/recordings?${query}`);
    if (this.server.token) request.setRequestHeader("Authorization", `Bearer ${this.server.token}`);
    request.upload.onprogress = (event) => this.show("being sent", event.loaded / event.total);
    const answer = await new Promise((done) => {
      request.onload = () => done(request);
      request.onerror = () => done(null);
      request.onabort = () => done(null);
      request.send(file);
    });
    if (!answer) { this.fail("It could not be sent."); return; }
    if (answer.status === 401) { await this.server.askForToken(); await this.send(file, options); return; }
    if (answer.status === 429 || answer.status === 503) {
      this.show("waits for the server", null);
      await untilRetry(answer.getResponseHeader("Retry-After"));
      if (!this.isGone) await this.send(file, options);
      return;
    }
    const told = JSON.parse(answer.responseText);
    if (answer.status !== 202) { this.fail(told.error.message); return; }
    this.id = told.id;
    this.server.remember(this);
    await this.follow();
  }

  async follow() {
    const since = Date.now();
    numFollowed += 1;
    while (!this.isGone) {
      const { status, told } = await this.server.ask(`v1/jobs/${this.id}`);
      if (this.isGone || await this.take(status, told)) break;
      await untilNext(since);
    }
    numFollowed -= 1;
  }

  // Shows how far it is, and tells whether that is the end.
  async take(status, job) {
    if (status === 404) { this.fail(job.error.message); this.server.forget(this); return true; }
    if (status !== 200) this.show(job.error.message, null);
    else if (job.state === "failed") this.fail(job.error);
    else if (job.state === "done") await this.finish(job);
    else if (job.state === "queued") this.show(job.place ? `waits, ${job.place} before it` : "waits", null);
    else if (job.progress) {
      this.show(STEPS[job.progress.step] ?? "at work", job.progress.completed / Math.max(1, job.progress.total));
    } else this.show("begins", null);
    return job.state === "failed" || job.state === "done";
  }

  show(state, share) {
    this.part(".state").textContent = state;
    const bar = this.part("progress");
    if (share === null) bar.removeAttribute("value");
    else bar.value = share;
  }

  fail(reason) {
    this.part("progress").hidden = true;
    this.part(".state").textContent = reason;
    this.card.classList.add("is-failed");
  }

  async finish(job) {
    const { result } = job;
    const { status, told } = await this.server.ask(result.links.json.slice(1));
    if (status !== 200) { this.fail(told.error.message); return; }
    const count = result.speakers.length;
    this.part("progress").hidden = true;
    this.part(".state").textContent = `${clock(result.duration_s)}, ${count} speaker${count === 1 ? "" : "s"}`;
    const turns = told.diarization.map((turn) => ({ ...turn, speaker: result.speakers.indexOf(turn.speaker) }));
    const canvas = this.part("canvas");
    canvas.hidden = false;
    this.redraw = () => draw(canvas, result.speakers, turns, 0, Math.max(1, result.duration_s));
    this.redraw();
    const list = this.part(".speakers");
    list.replaceChildren();
    result.speakers.forEach((name, index) => {
      const parts = speakerRow(list, name, index);
      const talked = turns.filter((turn) => turn.speaker === index).reduce((sum, turn) => sum + turn.end - turn.start, 0);
      parts.talked.textContent = clock(talked);
      if (result.links.tracks[name]) player(parts.rest, result.links.tracks[name], name);
    });
    const [place, stem] = [this.part(".downloads"), this.name.replace(/\.[^.]*$/, "")];
    place.replaceChildren();
    link(place, "Report", result.links.report);
    link(place, "RTTM", result.links.rttm, `${stem}.rttm`);
    link(place, "JSON", result.links.json, `${stem}.json`);
    link(place, "Everything (zip)", result.links.zip, `${stem}.zip`);
  }

  // It is there, and remembered, until the server says that it is not.
  async remove() {
    this.isGone = true;
    this.part(".remove").disabled = true;
    this.request?.abort();
    if (this.id) {
      this.part(".state").textContent = "being deleted";
      const { status, told } = await this.server.ask(`v1/jobs/${this.id}`, "DELETE");
      if (status !== 204 && status !== 404) {
        this.fail(told.error.message);
        this.part(".remove").disabled = false;
        return;
      }
    }
    this.server.forget(this);
    this.card.remove();
  }
}
