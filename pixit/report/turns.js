// Who spoke when as it is corrected: names, turns and whose words are whose; every change can be taken back.
// Nothing here knows of the page. Times are seconds, in whole milliseconds.

const SHORTEST_S = 0.02; // no turn is made shorter
const MOST_CHANGES = 1000; // that can be taken back

const inMilliseconds = (time) => Math.round(time * 1000) / 1000;

// The first place of a sorted list whose item is `isBehind`.
function firstPlace(list, isBehind) {
  let [low, high] = [0, list.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (isBehind(list[middle])) high = middle;
    else low = middle + 1;
  }
  return low;
}

// Turns in order, those that overlap as one: a speaker talks once at a time. Turns that touch stay two.
function inOrder(turns) {
  const ordered = [];
  for (const turn of [...turns].sort((one, other) => one.start - other.start || one.end - other.end)) {
    const last = ordered.at(-1);
    if (last && turn.start < last.end) ordered[ordered.length - 1] = { start: last.start, end: Math.max(last.end, turn.end) };
    else ordered.push(turn);
  }
  return ordered;
}

// What of the first stretches lies in none of the second; both are in order and disjoint.
function without(stretches, others) {
  const left = [];
  let place = 0;
  for (const { start, end } of stretches) {
    let from = start;
    while (place > 0 && others[place - 1].end > from) place -= 1;
    while (place < others.length && others[place].end <= from) place += 1;
    for (; place < others.length && others[place].start < end; place += 1) {
      if (others[place].start > from) left.push({ start: from, end: others[place].start });
      from = Math.max(from, others[place].end);
    }
    if (from < end) left.push({ start: from, end });
  }
  return left;
}

class Turns {
  // data: what the page knows of the recording; lanes that are no track have no turns here
  constructor(data) {
    this.duration = Math.floor(data.duration * 1000) / 1000;
    this.tracks = data.lanes.flatMap((lane, index) => (lane.kind === "track" ? [index] : []));
    this.times = data.words.map(([start, end]) => [start, end]);
    this.state = {
      names: data.lanes.map((lane) => lane.name),
      turns: data.lanes.map((lane) =>
        lane.kind === "track" ? inOrder(lane.turns.map(([start, end]) => ({ start, end }))) : []),
      words: data.words.map((word) => word[3]), // the lane of each
    };
    this.saved = this.state;
    [this.past, this.future] = [[], []];
    this.base = null; // what a turn that is being dragged was before
    this.onchange = () => {};
  }

  of(lane) {
    return this.state.turns[lane];
  }

  // Turns of a lane that lie at least partly in [start, end).
  within(lane, start, end) {
    const turns = this.of(lane);
    const last = firstPlace(turns, (turn) => turn.start >= end);
    return turns.slice(firstPlace(turns, (turn) => turn.end > start), last);
  }

  at(lane, time) {
    return this.within(lane, time, time + 1e-6)[0] ?? null;
  }

  // The turn, of all lanes, that begins next after [time, lane), or the last that began before it.
  next(time, lane = Infinity) {
    return this.nearest((turns, index) => {
      const place = firstPlace(turns, (turn) => turn.start > time || (turn.start === time && index > lane));
      return turns[place];
    }, 1);
  }

  previous(time, lane = -1) {
    return this.nearest((turns, index) => {
      const place = firstPlace(turns, (turn) => turn.start > time || (turn.start === time && index >= lane));
      return turns[place - 1];
    }, -1);
  }

  nearest(choose, sign) {
    let best = null;
    for (const lane of this.tracks) {
      const turn = choose(this.of(lane), lane);
      const isBetter = turn && (!best || sign * (turn.start - best.turn.start || lane - best.lane) < 0);
      if (isBetter) best = { lane, turn };
    }
    return best;
  }

  // --- changes: each returns the turn that it leaves, or null ---

  // Puts the start (side 0) or the end (1) to a time, as far as its other end and the speaker's next turn allow.
  resize(lane, turn, side, time) {
    const turns = this.of(lane);
    const place = turns.indexOf(turn);
    const [lowest, highest] = side
      ? [turn.start + SHORTEST_S, turns[place + 1]?.start ?? this.duration]
      : [turns[place - 1]?.end ?? 0, turn.end - SHORTEST_S];
    const edge = inMilliseconds(Math.min(highest, Math.max(lowest, time)));
    const changed = side ? { start: turn.start, end: edge } : { start: edge, end: turn.end };
    if (edge === (side ? turn.end : turn.start) || changed.start >= changed.end) return turn;
    this.put({ [lane]: turns.with(place, changed) });
    return changed;
  }

  split(lane, turn, time) {
    const middle = inMilliseconds(time);
    if (middle - turn.start < SHORTEST_S || turn.end - middle < SHORTEST_S) return null;
    const parts = [{ start: turn.start, end: middle }, { start: middle, end: turn.end }];
    this.put({ [lane]: this.of(lane).toSpliced(this.of(lane).indexOf(turn), 1, ...parts) });
    return parts[1];
  }

  // Makes one of a turn and the next of the same speaker, or the one before (-1), and of what is between them.
  join(lane, turn, step = 1) {
    const turns = this.of(lane);
    const place = turns.indexOf(turn);
    const other = turns[place + step];
    if (!other) return null;
    const joined = { start: Math.min(turn.start, other.start), end: Math.max(turn.end, other.end) };
    this.put({ [lane]: turns.toSpliced(Math.min(place, place + step), 2, joined) });
    return joined;
  }

  // Another speaker's turn, with the words that were said in it.
  give(lane, turn, to) {
    if (to === lane) return turn;
    const words = this.state.words.map((owner, index) => {
      const middle = (this.times[index][0] + this.times[index][1]) / 2;
      return owner === lane && middle >= turn.start && middle < turn.end ? to : owner;
    });
    const others = this.of(lane).filter((other) => other !== turn);
    this.put({ [lane]: others, [to]: inOrder([...this.of(to), turn]) }, { words });
    return this.at(to, turn.start);
  }

  add(lane, start, end) {
    const from = inMilliseconds(Math.max(0, start));
    const to = inMilliseconds(Math.min(this.duration, end));
    if (to - from < SHORTEST_S) return null;
    this.put({ [lane]: inOrder([...this.of(lane), { start: from, end: to }]) });
    return this.at(lane, from);
  }

  remove(lane, turn) {
    this.put({ [lane]: this.of(lane).filter((other) => other !== turn) });
    return null;
  }

  rename(lane, name) {
    if (name !== this.state.names[lane]) this.put({}, { names: this.state.names.with(lane, name) });
  }

  put(lanes, more = {}) {
    const turns = this.state.turns.map((own, lane) => lanes[lane] ?? own);
    if (!this.base) this.remember(this.state);
    this.state = { ...this.state, ...more, turns };
    this.onchange();
  }

  remember(state) {
    this.past.push(state);
    if (this.past.length > MOST_CHANGES) this.past.shift();
    this.future = [];
  }

  // --- a drag is one change, however many steps it takes ---

  begin() {
    this.base = this.state;
  }

  // Goes back to where the drag began, so that each step of it starts there.
  again() {
    this.state = this.base;
  }

  finish(isKept) {
    const base = this.base;
    this.base = null;
    if (!isKept) this.state = base;
    else if (this.state !== base) this.remember(base);
    this.onchange();
  }

  undo() {
    this.go(this.past, this.future);
  }

  redo() {
    this.go(this.future, this.past);
  }

  go(from, to) {
    if (!from.length || this.base) return;
    to.push(this.state);
    this.state = from.pop();
    this.onchange();
  }
}
