// Ties the controls of the page to the player and the view.

const data = JSON.parse(document.getElementById("data").textContent);
const clips = data.lanes
  .map((_, index) => document.getElementById(`sound-${index}`))
  .filter((element) => element !== null)
  .map((element) => element.textContent.split("\n"));
const find = (selector) => document.querySelector(selector);
const player = new Player(data, clips);
const view = new View(data, find("#lanes"));
const heads = player.lanes.map((_, index) => find(`.lane[data-lane="${index}"] .head`));
const spoken = data.words.map((_, index) => find(`[data-word="${index}"]`));

// --- what is shown of the player ---

function showState() {
  const { position } = player;
  document.documentElement.classList.toggle("is-playing", player.playing);
  find("#play").setAttribute("aria-label", player.playing ? "Pause" : "Play");
  find("#mute").setAttribute("aria-pressed", player.muted);
  find("#volume").value = player.volume;
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
  showWords(position);
}

// Marks what is being said; utterances are ordered by start, and one that lasts longer ends the search.
const longest = data.words.reduce((most, [start, end]) => Math.max(most, end - start), 0);
let marked = new Set();

function showWords(position) {
  let low = 0;
  for (let high = data.words.length; low < high; ) {
    const middle = (low + high) >> 1;
    if (data.words[middle][0] <= position) low = middle + 1;
    else high = middle;
  }
  const now = new Set();
  for (let index = low - 1; index >= 0 && data.words[index][0] >= position - longest; index -= 1) {
    if (data.words[index][1] > position) now.add(index);
  }
  for (const index of marked) if (!now.has(index)) spoken[index].classList.remove("now");
  for (const index of now) if (!marked.has(index)) reveal(spoken[index]);
  marked = now;
}

// Scrolls within the transcript only: the page itself stays where the reader has put it.
function reveal(word) {
  word.classList.add("now");
  const list = find(".transcript");
  const line = word.closest("li");
  const isSeen = line.offsetTop >= list.scrollTop && line.offsetTop + line.offsetHeight <= list.scrollTop + list.clientHeight;
  if (!isSeen) list.scrollTop = line.offsetTop - list.clientHeight / 3;
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
};
for (const [selector, act] of Object.entries(acts)) find(selector).addEventListener("click", act);
find("#volume").addEventListener("input", (event) => {
  player.volume = Number(event.target.value);
  player.mix();
});
heads.forEach((head, index) => {
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
  if (event.ctrlKey || event.metaKey || event.altKey) return;
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
player.onerror = (message) => {
  find("#error").textContent = message;
  find("#error").hidden = false;
};
document.documentElement.classList.toggle("has-reference", view.withReference);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => view.redraw());
showState();
view.redraw();
