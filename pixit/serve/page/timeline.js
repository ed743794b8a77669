// Who spoke when, drawn: a lane for each speaker.

const LANE = 26, RULER = 20, MARGIN = 6;

export function colour(index) {
  return `var(--speaker-${index % 8})`;
}

export function clock(seconds) {
  const whole = Math.floor(Math.max(0, seconds));
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60), whole % 60];
  const two = (number) => String(number).padStart(2, "0");
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

// turns: [{speaker: index, start, end}], in seconds; shown are the seconds from..to.
export function draw(canvas, names, turns, from, to) {
  const scale = window.devicePixelRatio || 1;
  const width = canvas.clientWidth || 800, height = RULER + MARGIN + LANE * Math.max(1, names.length);
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d"), style = getComputedStyle(canvas);
  const probe = document.createElement("i");  // light-dark() is resolved by the browser
  canvas.after(probe);
  const paint = (value) => { probe.style.color = value; return getComputedStyle(probe).color; };
  pen.scale(scale, scale);
  pen.font = `11px ${style.fontFamily}`;
  const x = (second) => ((second - from) / (to - from)) * width;
  pen.fillStyle = paint("var(--faint)");
  const step = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200].find((s) => ((to - from) / s) * 64 < width) ?? 14400;
  for (let second = Math.ceil(from / step) * step; second < to; second += step) {
    pen.fillRect(x(second), 14, 1, 5);
    pen.fillText(clock(second), x(second) + 3, 13);
  }
  names.forEach((_, index) => {
    pen.fillStyle = paint("var(--line)");
    pen.fillRect(0, RULER + LANE * index + LANE / 2, width, 1);
  });
  for (const turn of turns) {
    const [start, end] = [Math.max(turn.start, from), Math.min(turn.end, to)];
    if (end <= start) continue;
    pen.fillStyle = paint(colour(turn.speaker));
    pen.beginPath();
    pen.roundRect(x(start), RULER + LANE * turn.speaker + 4, Math.max(2, x(end) - x(start)), LANE - 8, 4);
    pen.fill();
  }
  probe.remove();
  canvas.setAttribute("aria-label", names.length ? `Who spoke when: ${names.join(", ")}` : "Nobody has spoken");
}

// A row of the list of speakers; returns its parts.
export function speakerRow(list, name, index) {
  const row = document.createElement("li");
  row.style.setProperty("--colour", colour(index));
  const [dot, label, talked, rest] = ["i", "span", "span", "div"].map((tag) => document.createElement(tag));
  dot.className = "dot";
  label.textContent = name;
  talked.className = "talked";
  row.append(dot, label, talked, rest);
  list.append(row);
  return { row, talked, rest };
}

export function player(place, address, name) {
  const audio = document.createElement("audio");
  audio.controls = true;
  audio.preload = "metadata";
  audio.src = address;
  audio.setAttribute("aria-label", `Track of ${name}`);
  place.replaceChildren(audio);
}

export function link(place, text, address, file) {
  const anchor = document.createElement("a");
  anchor.textContent = text;
  anchor.href = address;
  if (file) anchor.download = file;
  else { anchor.target = "_blank"; anchor.rel = "noopener"; }
  place.append(anchor);
}
