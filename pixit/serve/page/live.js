// The microphone as a stream, by docs/protocol.md: numbered, so that it goes on after a broken connection.

import { clock, draw, link, player, speakerRow } from "./timeline.js";

const SHOWN_S = 60, RETRY_MS = 1000, KEPT_S = 60;

// A track as it comes in: 16-bit samples, given to the browser to keep (it may put them on disk).
class Track {
  constructor(silent) {
    this.parts = [];
    this.length = 0;
    while (this.length < silent) this.add(new Int16Array(Math.min(1 << 20, silent - this.length)));
  }

  add(samples) {
    this.parts.push(new Blob([samples]));
    this.length += samples.length;
    if (this.parts.length > 200) this.parts = [new Blob(this.parts)];
  }

  wav(rate) {
    const view = new DataView(new ArrayBuffer(44)), bytes = 2 * this.length;
    const text = (at, letters) => [...letters].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
    text(0, "RIFF"); view.setUint32(4, 36 + bytes, true); text(8, "WAVEfmt ");
    view.setUint32(16, 16, true); view.setUint16(20, 1, true); view.setUint16(22, 1, true);
    view.setUint32(24, rate, true); view.setUint32(28, 2 * rate, true); view.setUint16(32, 2, true);
    view.setUint16(34, 16, true); text(36, "data"); view.setUint32(40, bytes, true);
    return new Blob([view, ...this.parts], { type: "audio/wav" });
  }
}

export class Live {
  constructor(server, onEnd) {
    [this.server, this.onEnd] = [server, onEnd];
    [this.turns, this.names, this.rows, this.tracks] = [[], [], [], []];
    [this.updates, this.received, this.end, this.heard] = [0, 0, 0, 0];
    this.kept = [];  // what was said and is not yet known to have arrived: [{from, block}]
    this.part = (id) => document.getElementById(id);
  }

  async start(latency) {
    this.latency = latency;
    const wishes = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    this.media = await navigator.mediaDevices.getUserMedia({ audio: wishes });
    this.context = new AudioContext();
    await this.context.audioWorklet.addModule("assets/microphone.js");
    const node = new AudioWorkletNode(this.context, "microphone", { channelCount: 1, channelCountMode: "explicit", numberOfOutputs: 0 });
    node.port.onmessage = (event) => this.hear(event.data);
    this.context.createMediaStreamSource(this.media).connect(node);
    this.part("live").hidden = false;
    this.part("live-speakers").replaceChildren();
    this.part("live-downloads").hidden = true;
    this.part("live-downloads").replaceChildren();
    this.part("speaking").textContent = "";
    this.connect();
  }

  connect() {
    const address = new URL("v1/stream", document.baseURI);
    address.protocol = address.protocol.replace("http", "ws");
    this.socket = new WebSocket(address);
    this.socket.binaryType = "arraybuffer";
    this.isReady = false;
    const token = this.server.token ?? undefined;
    this.socket.onopen = () => this.say(this.session
      ? { type: "resume", version: 1, token, session: this.session, update: this.updates }
      : { type: "hello", version: 1, token, sample_rate: this.context.sampleRate, format: "int16",
          latency_s: this.latency, tracks: "int16", resume: true });
    this.socket.onmessage = (event) => this.take(event.data);
    this.socket.onclose = (event) => this.lose(event);
  }

  say(message) {
    this.socket.send(JSON.stringify(message));
  }

  hear(block) {
    if (this.isStopping) return;
    this.kept.push({ from: this.heard, block });
    this.heard += block.length;
    if (this.isReady && this.heard - this.received < this.ahead) this.send(this.kept.at(-1));
    if (this.kept.length * block.length > KEPT_S * this.context.sampleRate) this.leave("the server is too slow for this microphone");
  }

  send({ from, block }) {
    if (from + block.length <= this.sent || this.socket.readyState !== WebSocket.OPEN) return;
    this.socket.send(block.subarray(Math.max(0, this.sent - from)));  // of which the server may have a part
    this.sent = from + block.length;
  }

  // Sends what is kept, as far ahead of the server as it allows.
  sendKept() {
    for (const piece of this.kept) if (piece.from + piece.block.length - this.received <= this.ahead) this.send(piece);
    if (this.isStopping && !this.isAsked && this.sent === this.heard) {
      this.isAsked = true;
      this.say({ type: "finish" });
    }
  }

  take(data) {
    if (data instanceof ArrayBuffer) { this.takeTracks(data); return; }
    const message = JSON.parse(data);
    if (message.type === "update") { this.takeUpdate(message); return; }
    if (message.type === "error") { this.fault = message; return; }
    [this.brokenSince, this.fault] = [undefined, undefined];
    this.session = message.session;
    this.rate = message.sample_rate;
    this.ahead = message.ahead_s * this.context.sampleRate;
    this.trim(message.received);
    this.sent = message.received;
    this.isReady = true;
    this.isAsked = false;
    this.sendKept();
  }

  trim(received) {
    this.received = received;
    while (this.kept.length && this.kept[0].from + this.kept[0].block.length <= received) this.kept.shift();
  }

  takeUpdate(update) {
    this.pending = update;
    if (!update.tracks) this.acknowledge();
  }

  takeTracks(data) {
    const update = this.pending, length = update.end - update.start;
    update.speakers.forEach((name, index) => {
      this.tracks[index] ??= new Track(update.start);
      this.tracks[index].add(new Int16Array(data, 4 + 2 * length * index, length));
    });
    this.acknowledge();
  }

  acknowledge() {
    const update = this.pending;
    this.updates = update.update;
    this.trim(update.received);
    this.end = update.end;
    this.say({ type: "ack", update: update.update });
    for (const name of update.speakers.slice(this.names.length)) {
      this.rows.push(speakerRow(this.part("live-speakers"), name, this.names.length));
      this.names.push(name);
      const level = document.createElement("div");
      level.className = "level";
      this.rows.at(-1).rest.append(level);
    }
    for (const turn of update.turns) this.change(turn);
    this.rows.forEach(({ rest }, index) => {
      const level = update.levels[this.names[index]] ?? 0;
      if (rest.firstChild) rest.firstChild.style.transform = `scaleX(${Math.min(1, 4 * level)})`;
    });
    this.show();
    if (update.final) this.leave(null);
    else this.sendKept();
  }

  change(turn) {
    const speaker = this.names.indexOf(turn.speaker);
    const open = this.turns.find((other) => other.speaker === speaker && other.isOpen);
    const isOpen = turn.kind !== "closed";
    const now = { speaker, start: turn.start_s, end: turn.end_s ?? turn.start_s, isOpen };
    if (open) Object.assign(open, now);
    else this.turns.push(now);
  }

  show() {
    const end = this.end / this.rate;
    for (const turn of this.turns) if (turn.isOpen) turn.end = Math.max(turn.end, end);
    this.part("clock").textContent = clock(end);
    const talking = this.turns.filter((turn) => turn.isOpen).map((turn) => turn.speaker);
    const words = talking.length ? `${talking.map((index) => this.names[index]).join(" and ")} speak${talking.length > 1 ? "" : "s"}` : "";
    if (this.part("speaking").textContent !== words) this.part("speaking").textContent = words;
    this.rows.forEach(({ row, talked }, index) => {
      row.classList.toggle("is-talking", talking.includes(index));
      const own = this.turns.filter((turn) => turn.speaker === index);
      talked.textContent = clock(own.reduce((sum, turn) => sum + turn.end - turn.start, 0));
    });
    this.redraw();
  }

  redraw() {
    const end = this.end / (this.rate ?? 1), from = this.isOver ? 0 : Math.max(0, end - SHOWN_S);
    draw(this.part("live-timeline"), this.names, this.turns, from, Math.max(this.isOver ? 1 : SHOWN_S, end));
  }

  stop() {
    this.isStopping = true;
    this.media.getTracks().forEach((track) => track.stop());
    if (this.isReady) this.sendKept();
  }

  // The connection broke: it is tried again for a while, unless the server said why.
  lose(event) {
    this.isReady = false;
    if (this.isOver) return;
    const isForGood = (event.code >= 4000 && event.code !== 4408) || event.code === 1009;  // 4408: it may come back
    this.brokenSince ??= Date.now();
    if (isForGood || Date.now() - this.brokenSince > KEPT_S * 1000) {
      this.leave(this.fault?.message ?? "the server cannot be reached any more");
      return;
    }
    this.part("speaking").textContent = "The connection broke; trying again…";
    setTimeout(() => { if (!this.isOver) this.connect(); }, RETRY_MS);
  }

  // The end, with a reason if it is not the one that was wished for: what there is can be heard and saved.
  leave(reason) {
    if (this.isOver) return;
    this.isOver = true;
    this.media.getTracks().forEach((track) => track.stop());
    this.context.close();
    this.socket.close();
    for (const turn of this.turns) turn.isOpen = false;
    if (this.rate) this.show();
    const place = this.part("live-downloads");
    place.hidden = false;
    this.tracks.forEach((track, index) => {
      const [name, address] = [this.names[index], URL.createObjectURL(track.wav(this.rate))];
      player(this.rows[index].rest, address, name);
      link(place, `${name}.wav`, address, `${name}.wav`);
    });
    const lines = this.turns.filter((turn) => turn.end > turn.start).sort((a, b) => a.start - b.start).map((turn) =>
      `SPEAKER live 1 ${turn.start.toFixed(3)} ${(turn.end - turn.start).toFixed(3)} <NA> <NA> ${this.names[turn.speaker]} <NA> <NA>\n`);
    link(place, "RTTM", URL.createObjectURL(new Blob(lines, { type: "text/plain" })), "live.rttm");
    this.onEnd(reason);
  }
}
