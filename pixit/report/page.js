// Ties the controls of the page to the player, the view, the turns and the transcript.

const data = JSON.parse(document.getElementById("data").textContent);
const clips = data.lanes
  .map((_, index) => document.getElementById(`sound-${index}`))
  .filter((element) => element !== null)
  .map((element) => element.textContent.split("\n"));
const find = (selector) => document.querySelector(selector);
const player = new Player(data, clips);
const turns = new Turns(data);
const view = new View(data, turns, find("#lanes"));
const heads = player.lanes.map((_, index) => find(`.lane[data-lane="${index}"] .head`));
const transcript = new Transcript(data, turns, find("#transcript"));
const editor = new Editor(data, turns, view, player);
const saving = new Saving(data, turns);

// --- what is shown of the player ---

function showState() {
  const { position } = player;
  document.documentElement.classList.toggle("is-playing", player.playing);
  find("#play").setAttribute("aria-label", player.playing ? "Pause" : "Play");
  find("#mute").setAttribute("aria-pressed", player.muted);
  find("#volume").value = player.volume;
  find("#speed").value = player.speed;
  find("#loop").setAttribute("aria-pressed", Boolean(player.part?.again));
  if (data.sound !== "none") {
    player.lanes.forEach((lane, index) => {
      heads[index].querySelector(".mute").setAttribute("aria-pressed", lane.muted);
      heads[index].querySelector(".solo").setAttribute("aria-pressed", lane.solo);
      heads[index].parentElement.classList.toggle("is-heard", player.audible(lane));
    });
  }
  showPosition(position);
  if (player.playing && !ticking) requestAnimationFrame(tick);
}

function showPosition(position) {
  find("#time").value = clock(position, 1);
  const slider = find("#overview");
  slider.setAttribute("aria-valuemax", data.duration);
  slider.setAttribute("aria-valuenow", position.toFixed(1));
  slider.setAttribute("aria-valuetext", `${clock(position)} of ${clock(data.duration)}`);
  view.moveTo(position);
  transcript.mark(position);
}

// What depends on turns and names: heads of lanes, transcript, tools.
function showTurns() {
  const { names } = turns.state;
  for (const lane of turns.tracks) {
    const section = find(`.lane[data-lane="${lane}"]`);
    section.querySelector(".name").textContent = names[lane];
    section.querySelector("h3").title = names[lane];
    section.setAttribute("aria-label", names[lane]);
    const labels = {
      ".rename": "Rename", ".mute": "Mute", ".solo": "Solo", ".gain": "Volume of", ".download": "Download the track of",
      canvas: "turns, waveform and spectrogram of",
    };
    for (const [selector, act] of Object.entries(labels)) {
      section.querySelector(selector)?.setAttribute("aria-label", `${act} ${names[lane]}`);
    }
    section.querySelector(".talk").textContent = talkOf(lane);
    const errors = section.querySelector(".errors");
    if (errors) errors.textContent = errorsOf(lane);
  }
  transcript.build();
  transcript.mark(player.position);
  editor.show();
}

function talkOf(lane) {
  const own = turns.of(lane);
  const talk = own.reduce((sum, { start, end }) => sum + end - start, 0);
  const share = data.duration ? `${Math.round((100 * talk) / data.duration)}%` : "–";
  return `${clock(talk)} · ${share} · ${own.length} turn${own.length === 1 ? "" : "s"}`;
}

function errorsOf(lane) {
  const length = (kind) => view.errorsOf(lane).reduce((sum, error) => sum + (error.kind === kind ? error.end - error.start : 0), 0);
  return `missed ${length("missed").toFixed(1)} s · false alarm ${length("added").toFixed(1)} s`;
}

let ticking = false;

function tick() {
  ticking = player.playing;
  const { position } = player;
  if (player.playing) view.follow(position);
  showPosition(position);
  heads.forEach((head, index) => {
    const meter = head.querySelector(".meter i");
    const level = 20 * Math.log10(Math.max(1e-3, player.level(index))); // -60 dB to full scale
    if (meter) meter.style.transform = `scaleX(${1 + level / 60})`;
  });
  if (ticking) requestAnimationFrame(tick);
}

// --- acts ---

function toggle() {
  if (player.playing) player.pause();
  else player.play();
}

function seek(time) {
  player.seek(time);
  view.follow(player.position);
}

function mute(index) {
  const lane = player.lanes[index];
  if (!lane) return;
  lane.muted = !lane.muted;
  player.mix();
}

// Alone, or with others that are solo already if `together`; a second time takes it back.
function solo(index, together = false) {
  const lane = player.lanes[index];
  if (!lane) return;
  const wanted = !lane.solo;
  if (!together) for (const other of player.lanes) other.solo = false;
  lane.solo = wanted;
  player.mix();
}

// Number keys count as the heads say: 0 is the mixture, 1 the first track.
function laneOfKey(digit) {
  const withMixture = data.lanes[0]?.kind === "mixture";
  return digit - (withMixture ? 0 : 1);
}

function changeVolume(by) {
  player.volume = Math.min(2, Math.max(0, player.volume + by));
  player.mix();
}

function changeTheme() {
  const root = document.documentElement;
  root.dataset.theme = getComputedStyle(root).colorScheme === "dark" ? "light" : "dark";
  view.redraw();
}

const SPEEDS = [0.5, 0.75, 1, 1.25, 1.5, 2];

function changeSpeed(by) {
  const place = SPEEDS.indexOf(player.speed) + by;
  if (place >= 0 && place < SPEEDS.length) player.setSpeed(SPEEDS[place]);
}

// --- what leaves the page ---

const files = {
  rttm: ["rttm", () => saving.rttm()],
  labels: ["labels.txt", () => saving.labels()],
  seglst: ["seglst.json", () => saving.seglst()],
  corrections: ["corrections.json", () => saving.corrections()],
};

function save(kind) {
  const [ending, content] = files[kind];
  download(`${data.name}.${ending}`, content());
  turns.saved = turns.state;
  find("#save").open = false;
}

async function downloadTrack(lane) {
  editor.say("Putting the track together …");
  download(`${fileName(turns.state.names[lane])}.wav`, await saving.wav(player, lane));
  editor.say("");
}

// Goes where the address says: #t=12.5 is a time, #t=12.5,20 a stretch, in seconds.
function goToHash() {
  const [, from, to] = /^#t=([\d.]+)(?:,([\d.]+))?$/.exec(location.hash) ?? [];
  const [start, end] = [from, to].map((time) => Math.min(data.duration, Number(time)));
  if (!Number.isFinite(start)) return;
  if (end > start && !(view.selected?.start === start && view.selected?.end === end)) {
    const owner = turns.tracks.find((lane) => {
      const turn = turns.at(lane, start);
      return turn?.start === start && turn.end === end;
    });
    if (owner === undefined) editor.selectTime(start, end);
    else editor.select(owner, turns.at(owner, start));
  }
  seek(start);
}

function zoom(factor) {
  const middle = view.start + view.span / 2;
  const inside = player.position >= view.start && player.position <= view.start + view.span;
  view.zoom(factor, inside ? player.position : middle);
}

function show(part) {
  view.shown[part] = !view.shown[part];
  find(part === "wave" ? "#show-wave" : "#show-spectrum").setAttribute("aria-pressed", view.shown[part]);
  view.redraw();
}

// --- pointers ---

// Seeks where an element is pressed, and goes on while the pointer is dragged.
function dragToSeek(element, timeAt) {
  element.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    element.setPointerCapture(event.pointerId);
    seek(timeAt(event));
  });
  element.addEventListener("pointermove", (event) => {
    if (element.hasPointerCapture(event.pointerId)) seek(timeAt(event));
  });
}

dragToSeek(find("#overview"), (event) => {
  const box = find("#overview canvas").getBoundingClientRect();
  return ((event.clientX - box.left) / box.width) * data.duration;
});
for (const element of document.querySelectorAll(".view, .ruler canvas")) {
  dragToSeek(element, (event) => view.timeAt(event.clientX));
}
find("#lanes").addEventListener("wheel", (event) => {
  if (event.ctrlKey || event.metaKey) {
    event.preventDefault();
    view.zoom(Math.exp(event.deltaY * 0.004), view.timeAt(event.clientX));
  } else if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
    event.preventDefault();
    view.show(view.start + (event.deltaX / view.width) * view.span, view.span);
  }
}, { passive: false });

const acts = {
  "#play": toggle,
  "#back": () => seek(player.position - 5),
  "#forward": () => seek(player.position + 5),
  "#mute": () => { player.muted = !player.muted; player.mix(); },
  "#zoom-in": () => zoom(0.5),
  "#zoom-out": () => zoom(2),
  "#zoom-fit": () => view.show(0, data.duration),
  "#show-wave": () => show("wave"),
  "#show-spectrum": () => show("spectrum"),
  "#theme": changeTheme,
  "#help-open": () => find("#help").showModal(),
  "#help-close": () => find("#help").close(),
};
for (const [selector, act] of Object.entries(acts)) find(selector).addEventListener("click", act);
find("#volume").addEventListener("input", (event) => {
  player.volume = Number(event.target.value);
  player.mix();
});
find("#speed").addEventListener("change", (event) => player.setSpeed(Number(event.target.value)));
for (const button of document.querySelectorAll("[data-save]")) {
  button.addEventListener("click", () => save(button.dataset.save));
}
find("#search").addEventListener("input", (event) => transcript.search(event.target.value));
find("#search").addEventListener("keydown", (event) => {
  if (event.key === "Escape") event.target.blur();
  if (event.key !== "Enter") return;
  const time = transcript.step(event.shiftKey ? -1 : 1);
  if (time !== null) seek(time);
});
heads.forEach((head, index) => {
  head.querySelector(".download")?.addEventListener("click", () => downloadTrack(index));
  head.querySelector(".mute")?.addEventListener("click", () => mute(index));
  head.querySelector(".solo")?.addEventListener("click", () => solo(index, true));
  head.querySelector(".gain")?.addEventListener("input", (event) => {
    player.lanes[index].gain = Number(event.target.value);
    player.mix();
  });
});
document.addEventListener("click", (event) => {
  const time = event.target.closest("[data-seek]")?.dataset.seek;
  const word = event.target.closest("[data-word]")?.dataset.word;
  if (time !== undefined) seek(Number(time));
  if (word !== undefined) seek(data.words[word][0]);
  // after a click the space bar plays again, and does not press the same button once more
  if (event.detail > 0) event.target.closest("button, summary")?.blur();
});

// --- keys ---

const keys = {
  Enter: () => editor.play(),
  Escape: () => editor.clear(),
  Delete: () => editor.remove(),
  Backspace: () => editor.remove(),
  ",": () => seek(player.position - 0.05),
  ".": () => seek(player.position + 0.05),
  "<": () => changeSpeed(-1),
  ">": () => changeSpeed(1),
  "?": acts["#help-open"],
  "/": () => { find("#search").focus(); find("#search").select(); },
  n: () => editor.step(1),
  p: () => editor.step(-1),
  l: () => editor.loop(),
  a: () => editor.add(),
  s: () => editor.split(),
  j: (event) => editor.join(event.shiftKey ? -1 : 1),
  i: () => editor.setSide(0, player.position),
  o: () => editor.setSide(1, player.position),
  g: () => find("#speaker").focus(),
  r: () => editor.rename(editor.lane),
  e: () => editor.stepToError(),
  u: () => editor.undo(),
  " ": toggle,
  ArrowLeft: (event) => seek(player.position - (event.shiftKey ? 1 : 5)),
  ArrowRight: (event) => seek(player.position + (event.shiftKey ? 1 : 5)),
  ArrowUp: () => changeVolume(0.05),
  ArrowDown: () => changeVolume(-0.05),
  Home: () => seek(0),
  End: () => seek(data.duration),
  m: acts["#mute"],
  f: acts["#zoom-fit"],
  "+": acts["#zoom-in"],
  "=": acts["#zoom-in"],
  "-": acts["#zoom-out"],
};

document.addEventListener("keydown", (event) => {
  const isTyping = event.target.matches("input:not([type=range]), select") || find("#help").open;
  if ((event.ctrlKey || event.metaKey) && !event.altKey && !isTyping && /^[zy]$/i.test(event.key)) {
    if (event.key.toLowerCase() === "y" || event.shiftKey) editor.redo();
    else editor.undo();
    event.preventDefault();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping) return;
  const own = event.target.closest("button, summary") ? [" ", "Enter"] : [];
  if (event.target.matches(".transcript")) own.push("ArrowUp", "ArrowDown", "Home", "End");
  if (event.target.matches("input")) own.push("ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End");
  if (own.includes(event.key)) return;
  const digit = /^Digit(\d)$/.exec(event.code)?.[1] ?? /^\d$/.exec(event.key)?.[0];
  const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (act) act(event);
  else if (digit !== undefined) (event.shiftKey ? mute : solo)(laneOfKey(Number(digit)));
  else return;
  event.preventDefault();
});

// --- start ---

player.onchange = showState;
turns.onchange = showTurns;
player.onerror = (message) => {
  find("#error").textContent = message;
  find("#error").hidden = false;
};
document.documentElement.classList.toggle("has-reference", view.withReference);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => view.redraw());
addEventListener("hashchange", goToHash);
addEventListener("beforeunload", (event) => {
  if (turns.state !== turns.saved) event.preventDefault(); // the browser asks
});
showTurns();
showState();
goToHash();
view.redraw();
