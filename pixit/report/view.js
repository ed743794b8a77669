// The stretch of time that is shown, and the drawing of it: only what is visible, only when something changed.

const MIN_SPAN_S = 2;
const HEIGHTS = { turns: matchMedia("(pointer: coarse)").matches ? 26 : 14, reference: 8, errors: 4, words: 18, wave: 60, spectrum: 84 };
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
  constructor(data, turns, root) {
    Object.assign(this, { data, turns, root, start: 0, span: data.duration, position: 0 });
    this.selected = null; // {start, end, lane, turn}: a stretch of time, of one lane or all; maybe a turn's
    this.colours = new Map();
    this.found = []; // for each lane, what `stretchesOf` and `errorsOf` made of which turns
    this.shown = { wave: true, spectrum: true };
    this.withReference = data.lanes.some((lane) => lane.reference.length);
    this.overview = root.querySelector("#overview canvas");
    this.ruler = root.querySelector("#ruler");
    this.cursor = root.querySelector("#cursor");
    this.band = root.querySelector("#band");
    this.probe = root.appendChild(document.createElement("i"));
    this.probe.hidden = true;
    this.rows = [...root.querySelectorAll(".lane")].map((section, index) => this.row(section, index));
    new ResizeObserver(() => this.redraw()).observe(root);
  }

  row(section, index) {
    const lane = this.data.lanes[index];
    const canvas = section.querySelector("canvas");
    if (lane.peaks === undefined) return { lane, index, section, canvas };
    return {
      lane, index, section, canvas,
      wave: new Waveform(lane.peaks, this.data.pointsPerSecond),
      spectrum: new Spectrogram(lane, this.data, () => this.redraw()),
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
    this.showBand();
    const mark = this.overview.parentElement;
    mark.style.setProperty("--at", `${(position / this.data.duration) * 100}%`);
    mark.style.setProperty("--from", `${(this.start / this.data.duration) * 100}%`);
    mark.style.setProperty("--span", `${(this.span / this.data.duration) * 100}%`);
  }

  // The selected stretch, across all lanes.
  showBand() {
    const { start, end } = this.selected ?? { start: 0, end: 0 };
    const [from, to] = [Math.max(start, this.start), Math.min(end, this.start + this.span)];
    this.band.hidden = from >= to;
    if (from >= to) return;
    this.band.style.left = `${this.ruler.offsetLeft + ((from - this.start) / this.span) * this.width}px`;
    this.band.style.width = `${Math.max(1, ((to - from) / this.span) * this.width)}px`;
  }

  // What the reference has and the turns have not, and the other way round; worked out when turns have changed.
  errorsOf(index) {
    const turns = this.turns.of(index);
    if (this.found[index]?.turns !== turns) {
      const truth = this.data.lanes[index].reference.map(([start, end]) => ({ start, end }));
      const spoken = without(turns, []);
      const missed = without(truth, spoken).map((part) => ({ ...part, kind: "missed" }));
      const added = without(spoken, truth).map((part) => ({ ...part, kind: "added" }));
      const errors = [...missed, ...added].sort((one, other) => one.start - other.start);
      this.found[index] = { turns, truth, errors };
    }
    return this.found[index].errors;
  }

  // Where the strip of turns of a lane is, from the top of its canvas.
  isOnTurns(y) {
    return y < GAP + HEIGHTS.turns + GAP / 2;
  }

  redraw() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.draw();
    });
  }

  colour(value) {
    if (!this.colours.has(value)) {
      this.probe.style.color = value;
      this.colours.set(value, getComputedStyle(this.probe).color);
    }
    return this.colours.get(value);
  }

  colourOf(row) {
    return this.colour(row.section.style.getPropertyValue("--colour"));
  }

  draw() {
    const theme = getComputedStyle(this.root).colorScheme === "dark" ? "dark" : "light";
    if (theme !== this.theme) this.colours.clear();
    this.theme = theme;
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

  // The whole recording: drawn only when it has changed, for it has all turns.
  drawOverview() {
    const seen = [this.turns.state.turns, this.theme, this.overview.clientWidth, window.devicePixelRatio];
    if (this.overviewSeen?.every((value, index) => value === seen[index])) return;
    this.overviewSeen = seen;
    const rows = this.rows.filter((row) => row.lane.kind === "track");
    const height = 36;
    const pen = this.pen(this.overview, height);
    const width = this.overview.clientWidth;
    const each = Math.min(10, (height - 8) / Math.max(1, rows.length));
    const top = (height - each * rows.length) / 2;
    rows.forEach((row, index) => {
      pen.fillStyle = this.colourOf(row);
      for (const { start, end } of this.turns.of(row.index)) {
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
    const parts = this.parts(row);
    const height = parts.reduce((sum, part) => sum + HEIGHTS[part] + GAP, GAP);
    const pen = this.pen(row.canvas, height);
    const colour = this.colourOf(row);
    let top = GAP;
    for (const part of parts) {
      const box = { top, height: HEIGHTS[part], width: this.width };
      if (part === "turns") this.drawOwnTurns(pen, box, row, colour);
      if (part === "reference") this.drawTruth(pen, box, row);
      if (part === "errors") this.drawErrors(pen, box, row);
      if (part === "words") this.drawWords(pen, box, this.wordsOf(row.index));
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
    const withErrors = this.withReference ? ["reference", "errors"] : [];
    if (row.lane.kind === "reference") return withErrors;
    const isReadable = this.width / this.span >= WORDS_FROM && this.wordsOf(row.index).length > 0;
    return [
      ...(row.lane.kind === "track" ? ["turns", ...withErrors] : []),
      ...(isReadable ? ["words"] : []),
      ...["wave", "spectrum"].filter((part) => row[part] && this.shown[part]),
    ];
  }

  // The words of a lane, gathered anew when some were given to another.
  wordsOf(index) {
    const owners = this.turns.state.words;
    if (this.owners !== owners) {
      this.owners = owners;
      this.words = this.rows.map(() => []);
      this.data.words.forEach((word, place) => this.words[owners[place]]?.push(word));
      this.longest = this.data.words.reduce((most, [start, end]) => Math.max(most, end - start), 0);
    }
    return this.words[index];
  }

  drawLabel(pen, box, text) {
    pen.font = "10px system-ui, sans-serif";
    pen.fillStyle = this.colour("var(--faint)");
    pen.fillText(text, 6, box.top + 11);
  }

  drawGroove(pen, box) {
    pen.fillStyle = this.colour("var(--groove)");
    pen.fillRect(0, box.top, box.width, box.height);
  }

  // [left, right] of a stretch in a box, a little beyond its edges at most.
  sides(box, start, end) {
    const scale = box.width / this.span;
    const left = Math.max(-4, (start - this.start) * scale);
    return [left, Math.max(left + 0.75, Math.min(box.width + 4, (end - this.start) * scale))];
  }

  drawTurns(pen, box, turns, gap = 0) {
    for (const { start, end } of turns) {
      const [left, right] = this.sides(box, start, end);
      const width = Math.max(0.75, right - left - gap);
      if (width < 4) { // thousands of turns: round corners would be lost on them
        pen.fillRect(left, box.top, width, box.height);
        continue;
      }
      pen.beginPath();
      pen.roundRect(left, box.top, width, box.height, Math.min(3, width / 3));
      pen.fill();
    }
  }

  drawOwnTurns(pen, box, row, colour) {
    const turns = this.turns.within(row.index, this.start, this.start + this.span);
    this.drawGroove(pen, box);
    pen.fillStyle = colour;
    this.drawTurns(pen, box, turns, turns.length < box.width / 4 ? 1 : 0); // turns that touch are told apart
    const { lane, turn } = this.selected ?? {};
    if (lane !== row.index || !turns.includes(turn)) return;
    const [left, right] = this.sides(box, turn.start, turn.end);
    pen.strokeStyle = this.colour("var(--ink)");
    pen.lineWidth = 2;
    pen.strokeRect(left, box.top, right - left - 1, box.height);
    pen.fillStyle = this.colour("var(--ink)");
    pen.fillRect(left - 1, box.top, 4, box.height); // where it is dragged
    pen.fillRect(right - 4, box.top, 4, box.height);
  }

  drawTruth(pen, box, row) {
    this.errorsOf(row.index);
    this.drawGroove(pen, box);
    pen.fillStyle = this.colour("var(--reference)");
    this.drawTurns(pen, box, this.visible(this.found[row.index].truth));
  }

  drawErrors(pen, box, row) {
    for (const error of this.visible(this.errorsOf(row.index))) {
      const [left, right] = this.sides(box, error.start, error.end);
      pen.fillStyle = this.colour(error.kind === "missed" ? "var(--missed)" : "var(--added)");
      pen.fillRect(left, box.top, right - left, box.height);
    }
  }

  // What of disjoint stretches in order is on the screen.
  visible(stretches) {
    const first = firstPlace(stretches, (part) => part.end > this.start);
    return stretches.slice(first, firstPlace(stretches, (part) => part.start >= this.start + this.span));
  }

  drawWords(pen, box, words) {
    const scale = box.width / this.span;
    pen.font = "12px system-ui, sans-serif";
    pen.fillStyle = this.colour("var(--ink)");
    const last = firstPlace(words, ([start]) => start >= this.start + this.span);
    for (const [start, end, text] of words.slice(firstPlace(words, (word) => word[0] >= this.start - this.longest), last)) {
      if (end < this.start) continue;
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
