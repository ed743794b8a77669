// Recordings: sent, waited for, shown.

import { clock, draw, link, player, speakerRow } from "./timeline.js";

const POLL_MS = 700;
const STEPS = { segmentation: "listening", embeddings: "comparing voices", separations: "writing tracks" };

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
    const told = JSON.parse(answer.responseText);
    if (answer.status !== 202) { this.fail(told.error.message); return; }
    this.id = told.id;
    this.server.remember(this);
    await this.follow();
  }

  async follow() {
    while (!this.isGone) {
      const job = await this.server.ask(`v1/jobs/${this.id}`);
      if (job.error?.code) {
        this.fail(job.error.message);
        if (job.error.code === "not_found") this.server.forget(this);
        return;
      }
      if (job.state === "failed") { this.fail(job.error); return; }
      if (job.state === "done") { await this.finish(job); return; }
      if (job.state === "queued") this.show(job.place ? `waits, ${job.place} before it` : "waits", null);
      else if (job.progress) {
        this.show(STEPS[job.progress.step] ?? "at work", job.progress.completed / Math.max(1, job.progress.total));
      } else this.show("begins", null);
      await new Promise((done) => setTimeout(done, POLL_MS));
    }
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
    const told = await this.server.ask(result.links.json.slice(1));
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

  async remove() {
    this.isGone = true;
    this.request?.abort();
    if (this.id) await this.server.ask(`v1/jobs/${this.id}`, "DELETE");
    this.server.forget(this);
    this.card.remove();
  }
}
