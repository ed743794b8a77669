// Correcting turns: what is selected, what is done with it, by pointer, by key, and with the tools above the lanes.

const EDGE_PX = matchMedia("(pointer: coarse)").matches ? 16 : 6; // how near an edge is taken by the pointer
const NEW_TURN_S = 1; // length of a turn that is added where nothing is selected

class Editor {
  constructor(data, turns, view, player) {
    Object.assign(this, { data, turns, view, player });
    this.tools = find("#editor");
    this.speaker = find("#speaker");
    this.sides = [find("#turn-start"), find("#turn-end")];
    this.tools.hidden = !turns.tracks.length;
    this.speaker.replaceChildren(...turns.tracks.map((lane) => new Option("", lane)));
    for (const row of view.rows) this.follow(row);
    this.listen();
  }

  get selected() {
    return this.view.selected;
  }

  get lane() {
    return this.selected?.lane ?? Number(this.speaker.value);
  }

  // --- what is selected ---

  // A stretch of time, [start, end), of a lane or of all (null).
  selectTime(start, end, lane = null) {
    this.view.selected = { start, end, lane, turn: null };
    this.show();
  }

  select(lane, turn) {
    this.view.selected = turn && { start: turn.start, end: turn.end, lane, turn };
    this.show();
    if (turn) this.say(`${this.turns.state.names[lane]}, ${clock(turn.start, 1)} to ${clock(turn.end, 1)}`);
  }

  clear() {
    this.view.selected = null;
    this.player.part = null;
    this.show();
  }

  // Brings the tools and the page in line with the selection and the turns.
  show() {
    const { selected } = this;
    const own = selected?.turn ? this.turns.of(selected.lane) : [];
    if (selected?.turn && !own.includes(selected.turn)) { // it was changed or undone
      const turn = this.turns.at(selected.lane, (selected.turn.start + selected.turn.end) / 2);
      this.view.selected = turn && { start: turn.start, end: turn.end, lane: selected.lane, turn };
      this.show();
      return;
    }
    const { names } = this.turns.state;
    for (const option of this.speaker.options) option.textContent = names[option.value];
    if (selected?.lane != null) this.speaker.value = selected.lane;
    this.sides.forEach((input, side) => {
      input.disabled = !selected;
      if (document.activeElement !== input) input.value = selected ? (side ? selected.end : selected.start).toFixed(2) : "";
    });
    for (const id of ["split", "join", "join-before", "remove"]) find(`#${id}`).disabled = !selected?.turn;
    find("#play-part").disabled = find("#loop").disabled = !selected || this.data.sound === "none";
    find("#loop").setAttribute("aria-pressed", Boolean(this.player.part?.again));
    find("#undo").disabled = !this.turns.past.length;
    find("#redo").disabled = !this.turns.future.length;
    if (selected) history.replaceState(null, "", `#t=${selected.start},${selected.end}`);
    this.view.redraw();
  }

  say(text) {
    find("#status").textContent = text;
  }

  // --- acts ---

  play(again = false) {
    if (!this.selected) return;
    this.view.follow(this.selected.start);
    this.player.playPart(this.selected.start, this.selected.end, again);
    this.show();
  }

  loop() {
    if (!this.player.part?.again) {
      this.play(true);
      return;
    }
    this.player.part = null;
    this.player.pause();
    this.show();
  }

  step(by) {
    const { position } = this.player;
    const from = this.selected?.turn ? [this.selected.start, this.selected.lane] : [position];
    this.goTo(by > 0 ? this.turns.next(...from) : this.turns.previous(...from));
  }

  goTo(found) {
    if (!found) return;
    this.player.part = null;
    this.select(found.lane, found.turn);
    seek(found.turn.start);
  }

  // To the next stretch where turns and reference differ.
  stepToError() {
    const { position } = this.player;
    const errors = this.view.rows.flatMap(({ index, lane }) => (lane.kind === "mixture" ? []
      : this.view.errorsOf(index).filter((error) => error.start > position + 1e-3).slice(0, 1).map((error) => ({ index, error }))));
    const next = errors.sort((one, other) => one.error.start - other.error.start)[0];
    if (!next) return;
    const { start, end, kind } = next.error;
    this.selectTime(start, end, this.turns.tracks.includes(next.index) ? next.index : null);
    seek(start);
    this.say(`${this.turns.state.names[next.index]}: ${kind === "missed" ? "missed" : "not in the reference"}, ${(end - start).toFixed(2)} s`);
  }

  add() {
    const { position } = this.player;
    const { start, end } = this.selected && !this.selected.turn ? this.selected : { start: position, end: position + NEW_TURN_S };
    const { lane } = this;
    this.select(lane, this.turns.add(lane, start, end));
  }

  split() {
    if (!this.selected?.turn) return;
    const { lane, turn } = this.selected;
    const rest = this.turns.split(lane, turn, this.player.position);
    if (rest) this.select(lane, rest);
    else this.say("The cursor must stand inside the turn that is to be split.");
  }

  join(step) {
    if (!this.selected?.turn) return;
    const { lane, turn } = this.selected;
    const joined = this.turns.join(lane, turn, step);
    if (joined) this.select(lane, joined);
  }

  remove() {
    if (!this.selected?.turn) return;
    this.turns.remove(this.selected.lane, this.selected.turn);
    this.clear();
  }

  give(lane) {
    if (!this.selected?.turn) return;
    this.select(lane, this.turns.give(this.selected.lane, this.selected.turn, lane));
  }

  // Puts an edge (0 start, 1 end) of what is selected to a time.
  setSide(side, time) {
    if (!this.selected || !Number.isFinite(time)) return;
    const { lane, turn, start, end } = this.selected;
    const [from, to] = side ? [start, time] : [time, end];
    if (turn) this.select(lane, this.turns.resize(lane, turn, side, time));
    else if (from < to) this.selectTime(Math.max(0, from), Math.min(this.data.duration, to), lane);
  }

  undo() {
    this.turns.undo();
  }

  redo() {
    this.turns.redo();
  }

  // Asks for a name in the head of a lane; one that files or RTTM cannot hold is not taken.
  rename(lane) {
    const title = find(`.lane[data-lane="${lane}"] h3`);
    if (!this.turns.tracks.includes(lane) || title.querySelector("input")) return;
    const shown = title.querySelector(".name");
    const input = document.createElement("input");
    Object.assign(input, { value: this.turns.state.names[lane], className: "renaming", spellcheck: false });
    input.setAttribute("aria-label", `New name of ${input.value}`);
    const before = document.activeElement;
    const isByKey = before.matches(":focus-visible"); // after a click the keys are the page's again
    let isOpen = true;
    const close = () => {
      if (!isOpen) return; // leaving the page's tree takes the focus away, too
      isOpen = false;
      input.replaceWith(shown);
      if (isByKey) before.focus();
    };
    input.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Escape") close();
      if (event.key !== "Enter") return;
      event.preventDefault(); // the button that has the focus next is not pressed, too
      const problem = this.problemOf(lane, input.value);
      input.setCustomValidity(problem);
      if (problem) {
        this.say(problem);
        input.reportValidity();
        return;
      }
      close();
      this.turns.rename(lane, input.value);
      this.say(`Renamed to ${input.value}`);
    });
    input.addEventListener("input", () => input.setCustomValidity(""));
    input.addEventListener("blur", close);
    shown.replaceWith(input);
    input.select();
  }

  problemOf(lane, name) {
    const { names } = this.turns.state;
    if (name === names[lane]) return "";
    if (name !== fileName(name)) return `RTTM and files hold neither spaces nor any of <>:"/\\|?*; try ${fileName(name)}`;
    const isTaken = this.turns.tracks.some((other) => other !== lane && fileName(names[other]).toLowerCase() === name.toLowerCase());
    return isTaken ? `Someone else is called ${name}` : "";
  }

  // --- pointer and tools ---

  // The turn of a row under the pointer: {turn, side}, where a side is 0 (start), 1 (end) or null (between).
  under(row, event) {
    if (row.lane.kind !== "track" || !this.view.isOnTurns(event.clientY - row.canvas.getBoundingClientRect().top)) return null;
    const reach = (EDGE_PX / this.view.width) * this.view.span;
    const time = this.view.timeAt(event.clientX);
    const near = this.turns.within(row.index, time - reach, time + reach);
    const own = near.includes(this.selected?.turn) ? [this.selected.turn] : near;
    const turn = own.find(({ start, end }) => time >= start && time < end) ?? own[0];
    if (!turn) return null;
    const slack = Math.min(reach, (turn.end - turn.start) / 3);
    const side = Math.abs(time - turn.start) <= slack || time < turn.start ? 0
      : Math.abs(time - turn.end) <= slack || time > turn.end ? 1 : null;
    return { turn, side };
  }

  // Follows the pointer on the lane of a row: on the strip of turns, or with shift for a stretch of time.
  follow(row) {
    const { canvas, index } = row;
    let drag = null;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      const hit = this.under(row, event);
      const time = this.view.timeAt(event.clientX);
      if (event.shiftKey) drag = { from: time };
      else if (hit?.side != null) {
        drag = hit;
        this.select(index, hit.turn);
        this.turns.begin();
      } else if (hit) {
        this.select(index, hit.turn);
        this.play();
      } else {
        if (this.selected) this.clear();
        return; // the page seeks
      }
      event.stopPropagation();
      event.preventDefault();
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!drag) canvas.style.cursor = { 0: "ew-resize", 1: "ew-resize", null: "pointer" }[this.under(row, event)?.side] ?? "";
      else if (drag.turn) this.drag(index, drag, this.view.timeAt(event.clientX));
      else this.dragTime(row, drag.from, this.view.timeAt(event.clientX));
    });
    const end = (isKept) => {
      if (drag?.turn) this.turns.finish(isKept);
      drag = null;
    };
    canvas.addEventListener("pointerup", () => end(true));
    canvas.addEventListener("pointercancel", () => end(false));
  }

  drag(lane, { turn, side }, time) {
    this.turns.again();
    this.select(lane, this.turns.resize(lane, turn, side, time));
  }

  dragTime(row, from, to) {
    const [start, end] = [Math.min(from, to), Math.max(from, to)].map((time) =>
      inMilliseconds(Math.min(this.data.duration, Math.max(0, time))));
    if (start < end) this.selectTime(start, end, row.lane.kind === "track" ? row.index : null);
  }

  listen() {
    const acts = {
      "#next-turn": () => this.step(1),
      "#previous-turn": () => this.step(-1),
      "#play-part": () => this.play(),
      "#loop": () => this.loop(),
      "#add": () => this.add(),
      "#split": () => this.split(),
      "#join-before": () => this.join(-1),
      "#join": () => this.join(1),
      "#remove": () => this.remove(),
      "#undo": () => this.undo(),
      "#redo": () => this.redo(),
      "#next-error": () => this.stepToError(),
    };
    for (const [selector, act] of Object.entries(acts)) find(selector).addEventListener("click", act);
    this.speaker.addEventListener("change", () => this.give(Number(this.speaker.value)));
    this.sides.forEach((input, side) => input.addEventListener("change", () => {
      this.setSide(side, input.valueAsNumber);
      if (this.selected) input.value = (side ? this.selected.end : this.selected.start).toFixed(2);
    }));
    for (const lane of this.turns.tracks) {
      const title = find(`.lane[data-lane="${lane}"] h3`);
      title.querySelector(".rename").addEventListener("click", () => this.rename(lane));
      title.addEventListener("dblclick", () => this.rename(lane));
    }
  }
}
