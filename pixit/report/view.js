// The stretch of time that is shown, and the drawing of it: only what is visible, only when something changed.

const MIN_SPAN_S = 2;
const HEIGHTS = { turns: 14, reference: 8, words: 18, wave: 60, spectrum: 84 };
const GAP = 4;
const TICKS_S = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400];
const WORDS_FROM = 24; // pixels a second from which on words can be read

function clock(time, decimals = 0) {
  const units = Math.round(time * 10 ** decimals);
  const whole = Math.floor(units / 10 ** decimals);
  const rest = decimals ? `.${String(units % 10 ** decimals).padStart(decimals, "0")}` : "";
  const [hours, minutes, seconds] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const long = hours ? `${hours}:${String(minutes).padStart(2, "0")}` : `${minutes}`;
  return `${long}:${String(seconds).padStart(2, "0")}${rest}`;
}

class View {
  constructor(data, root) {
    Object.assign(this, { data, root, start: 0, span: data.duration, position: 0 });
    this.shown = { wave: true, spectrum: true };
    this.withReference = data.lanes.some((lane) => lane.reference.length);
    this.overview = root.querySelector("#overview canvas");
    this.ruler = root.querySelector("#ruler");
    this.cursor = root.querySelector("#cursor");
    this.probe = root.appendChild(document.createElement("i"));
    this.probe.hidden = true;
    this.rows = [...root.querySelectorAll(".lane")].map((section, index) => this.row(section, index));
    new ResizeObserver(() => this.redraw()).observe(root);
  }

  row(section, index) {
    const lane = this.data.lanes[index];
    const canvas = section.querySelector("canvas");
    if (lane.peaks === undefined) return { lane, section, canvas };
    return {
      lane, section, canvas,
      wave: new Waveform(lane.peaks, this.data.pointsPerSecond),
      spectrum: new Spectrogram(lane, this.data, () => this.redraw()),
      words: this.data.words.filter((word) => word[3] === index),
    };
  }

  get width() {
    return this.ruler.clientWidth;
  }

  get left() {
    return this.ruler.getBoundingClientRect().left;
  }

  timeAt(clientX) {
    return this.start + ((clientX - this.left) / this.width) * this.span;
  }

  // Shows [start, start + span), kept inside the recording.
  show(start, span) {
    const { duration } = this.data;
    this.span = Math.min(duration, Math.max(Math.min(MIN_SPAN_S, duration), span));
    this.start = Math.min(duration - this.span, Math.max(0, start));
    this.redraw();
  }

  // Zooms so that `time` stays where it is on the screen.
  zoom(factor, time) {
    const place = (time - this.start) / this.span;
    const span = Math.min(this.data.duration, Math.max(MIN_SPAN_S, this.span * factor));
    this.show(time - place * span, span);
  }

  follow(position) {
    if (position < this.start || position > this.start + this.span) this.show(position - 0.05 * this.span, this.span);
  }

  moveTo(position) {
    this.position = position;
    const x = ((position - this.start) / this.span) * this.width;
    this.cursor.hidden = x < 0 || x > this.width + 1;
    this.cursor.style.transform = `translateX(${this.ruler.offsetLeft + x}px)`;
    const mark = this.overview.parentElement;
    mark.style.setProperty("--at", `${(position / this.data.duration) * 100}%`);
    mark.style.setProperty("--from", `${(this.start / this.data.duration) * 100}%`);
    mark.style.setProperty("--span", `${(this.span / this.data.duration) * 100}%`);
  }

  redraw() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.draw();
    });
  }

  colour(value) {
    this.probe.style.color = value;
    return getComputedStyle(this.probe).color;
  }

  draw() {
    this.theme = getComputedStyle(this.root).colorScheme === "dark" ? "dark" : "light";
    this.drawOverview();
    this.drawRuler();
    for (const row of this.rows) this.drawRow(row);
    this.moveTo(this.position);
  }

  // Sizes a canvas for the screen and returns its pen, in CSS pixels.
  pen(canvas, height) {
    const scale = window.devicePixelRatio || 1;
    const width = canvas.clientWidth;
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      [canvas.width, canvas.height] = [Math.round(width * scale), Math.round(height * scale)];
      canvas.style.height = `${height}px`;
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    return pen;
  }

  drawOverview() {
    const rows = this.rows.filter((row) => row.lane.kind === "track");
    const height = 36;
    const pen = this.pen(this.overview, height);
    const width = this.overview.clientWidth;
    const each = Math.min(10, (height - 8) / Math.max(1, rows.length));
    const top = (height - each * rows.length) / 2;
    rows.forEach((row, index) => {
      pen.fillStyle = this.colour(getComputedStyle(row.section).getPropertyValue("--colour"));
      for (const [start, end] of row.lane.turns) {
        const x = (start / this.data.duration) * width;
        pen.fillRect(x, top + index * each + 0.5, Math.max(0.75, ((end - start) / this.data.duration) * width), each - 1);
      }
    });
  }

  drawRuler() {
    const pen = this.pen(this.ruler, 24);
    const step = TICKS_S.find((tick) => (tick / this.span) * this.width >= 70) ?? this.span;
    pen.font = "11px system-ui, sans-serif";
    pen.fillStyle = this.colour("var(--faint)");
    for (let tick = Math.ceil(this.start / step); tick * step <= this.start + this.span; tick += 1) {
      const x = ((tick * step - this.start) / this.span) * this.width;
      pen.fillRect(Math.round(x), 17, 1, 7);
      const text = clock(tick * step, step < 1 ? 1 : 0);
      const half = pen.measureText(text).width / 2;
      pen.fillText(text, Math.min(this.width - 2 * half, Math.max(0, x - half)), 12);
    }
  }

  drawRow(row) {
    const { lane } = row;
    const parts = this.parts(row);
    const height = parts.reduce((sum, part) => sum + HEIGHTS[part] + GAP, GAP);
    const pen = this.pen(row.canvas, height);
    const colour = this.colour(getComputedStyle(row.section).getPropertyValue("--colour"));
    let top = GAP;
    for (const part of parts) {
      const box = { top, height: HEIGHTS[part], width: this.width };
      if (part === "turns") this.drawTurns(pen, box, lane.turns, colour);
      if (part === "reference") this.drawTurns(pen, box, lane.reference, this.colour("var(--reference)"));
      if (part === "words") this.drawWords(pen, box, row.words);
      if (part === "wave") row.wave.draw(pen, box, this.start, this.span, colour);
      if (part === "spectrum") {
        row.spectrum.draw(pen, box, this.start, this.span, this.theme);
        this.drawLabel(pen, box, `${this.data.sampleRate / 2000} kHz`);
      }
      top += HEIGHTS[part] + GAP;
    }
  }

  // What a row consists of, from above.
  parts(row) {
    if (row.lane.kind === "reference") return ["reference"];
    const readable = row.words?.length && this.width / this.span >= WORDS_FROM;
    return [
      ...(row.lane.kind === "track" ? ["turns"] : []),
      ...(row.lane.kind === "track" && this.withReference ? ["reference"] : []),
      ...(readable ? ["words"] : []),
      ...["wave", "spectrum"].filter((part) => row[part] && this.shown[part]),
    ];
  }

  drawLabel(pen, box, text) {
    pen.font = "10px system-ui, sans-serif";
    pen.fillStyle = this.colour("var(--faint)");
    pen.fillText(text, 6, box.top + 11);
  }

  drawTurns(pen, box, turns, colour) {
    pen.fillStyle = this.colour("var(--groove)");
    pen.fillRect(0, box.top, box.width, box.height);
    pen.fillStyle = colour;
    const scale = box.width / this.span;
    for (const [start, end] of turns) {
      if (end < this.start || start > this.start + this.span) continue;
      const x = Math.max(-4, (start - this.start) * scale);
      const right = Math.min(box.width + 4, (end - this.start) * scale);
      pen.beginPath();
      pen.roundRect(x, box.top, Math.max(0.75, right - x), box.height, Math.min(3, (right - x) / 3));
      pen.fill();
    }
  }

  drawWords(pen, box, words) {
    const scale = box.width / this.span;
    pen.font = "12px system-ui, sans-serif";
    pen.fillStyle = this.colour("var(--ink)");
    for (const [start, end, text] of words) {
      if (end < this.start || start > this.start + this.span) continue;
      const left = (start - this.start) * scale;
      pen.save();
      pen.beginPath();
      pen.rect(left, box.top, Math.max(1, (end - start) * scale - 3), box.height);
      pen.clip();
      pen.fillText(text, Math.max(left, 0), box.top + 13);
      pen.restore();
    }
  }
}
