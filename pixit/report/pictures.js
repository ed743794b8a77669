// Waveforms and spectrograms: numbers and grey pictures in, what is visible of them drawn in colour.

const MAX_TILES = 64; // coloured tiles kept

// Colours from silence to loud, [red, green, blue], for a dark and a light page.
const RAMPS = {
  dark: [[17, 20, 26], [43, 27, 84], [114, 31, 129], [191, 57, 109], [246, 118, 85], [254, 194, 135], [252, 253, 215]],
  light: [[255, 255, 255], [233, 230, 246], [193, 184, 229], [140, 124, 203], [97, 71, 167], [60, 31, 118], [28, 8, 62]],
};

function ramp(name) {
  const stops = RAMPS[name];
  const table = new Uint8ClampedArray(256 * 3);
  for (let grey = 0; grey < 256; grey += 1) {
    const place = (grey / 255) * (stops.length - 1);
    const index = Math.min(stops.length - 2, Math.floor(place));
    for (let part = 0; part < 3; part += 1) {
      const [low, high] = [stops[index][part], stops[index + 1][part]];
      table[grey * 3 + part] = low + (high - low) * (place - index);
    }
  }
  return table;
}

// Lowest and highest samples at ever coarser steps: each level has a quarter of the points of the one before.
class Waveform {
  constructor(base64, pointsPerSecond) {
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    this.levels = [new Int8Array(bytes.buffer)];
    this.pointsPerSecond = pointsPerSecond;
    while (this.levels.at(-1).length > 4000) this.levels.push(Waveform.coarser(this.levels.at(-1)));
  }

  static coarser(points) {
    const fewer = new Int8Array(Math.ceil(points.length / 8) * 2);
    for (let index = 0; index < points.length; index += 2) {
      const place = (index >> 3) * 2;
      fewer[place] = Math.min(fewer[place], points[index]);
      fewer[place + 1] = Math.max(fewer[place + 1], points[index + 1]);
    }
    return fewer;
  }

  // Draws [start, start + span) seconds into a box; half of its height is full scale.
  draw(pen, box, start, span, colour) {
    const perPixel = (span * this.pointsPerSecond) / box.width;
    const level = Math.min(this.levels.length - 1, Math.max(0, Math.floor(Math.log(perPixel) / Math.log(4))));
    const points = this.levels[level];
    const perSecond = this.pointsPerSecond / 4 ** level;
    const middle = box.top + box.height / 2;
    pen.fillStyle = colour;
    for (let x = 0; x < box.width; x += 1) {
      const first = Math.floor((start + (x / box.width) * span) * perSecond);
      const last = Math.max(first, Math.ceil((start + ((x + 1) / box.width) * span) * perSecond) - 1);
      let [low, high] = [0, 0];
      for (let index = first; index <= last && index * 2 < points.length; index += 1) {
        low = Math.min(low, points[index * 2]);
        high = Math.max(high, points[index * 2 + 1]);
      }
      const up = (high / 127) * (box.height / 2);
      const down = (-low / 127) * (box.height / 2);
      pen.fillRect(x, middle - up - 0.5, 1, up + down + 1);
    }
  }
}

// One picture of the whole, and tiles of all detail, which are decoded and coloured when they are seen.
class Spectrogram {
  constructor(lane, data, redraw) {
    this.sources = { whole: lane.whole, tiles: lane.tiles };
    this.columnsPerSecond = data.columnsPerSecond;
    this.tileColumns = data.tileColumns;
    this.duration = data.duration;
    this.redraw = redraw;
    this.ready = new Map();
    this.theme = null;
  }

  draw(pen, box, start, span, theme) {
    if (theme !== this.theme) {
      this.theme = theme;
      this.ready.clear();
    }
    const whole = this.picture("whole", 0);
    const wholeColumns = whole ? whole.width / this.duration : 0;
    this.place(pen, box, start, span, whole, 0, this.duration);
    if (!this.sources.tiles.length || wholeColumns * span >= box.width) return;
    const tileSpan = this.tileColumns / this.columnsPerSecond;
    const last = Math.min(this.sources.tiles.length - 1, Math.floor((start + span) / tileSpan));
    for (let index = Math.max(0, Math.floor(start / tileSpan)); index <= last; index += 1) {
      const tile = this.picture("tiles", index);
      const tileEnd = tile && index * tileSpan + tile.width / this.columnsPerSecond;
      this.place(pen, box, start, span, tile, index * tileSpan, tileEnd);
    }
  }

  // Draws what of a picture of [from, to) seconds lies in [start, start + span).
  place(pen, box, start, span, picture, from, to) {
    const [left, right] = [Math.max(from, start), Math.min(to, start + span)];
    if (!picture || left >= right) return;
    const perSecond = picture.width / (to - from);
    const scale = box.width / span;
    pen.drawImage(
      picture, (left - from) * perSecond, 0, (right - left) * perSecond, picture.height,
      (left - start) * scale, box.top, (right - left) * scale, box.height,
    );
  }

  picture(kind, index) {
    const key = `${kind}${index}`;
    const found = this.ready.get(key);
    this.ready.delete(key);
    this.ready.set(key, found ?? null);
    if (found === undefined) this.load(key, this.sources[kind][index]);
    if (this.ready.size > MAX_TILES) this.ready.delete(this.ready.keys().next().value);
    return found ?? null;
  }

  async load(key, base64) {
    const { theme } = this;
    const image = new Image();
    image.src = `data:image/jpeg;base64,${base64}`;
    await image.decode();
    if (theme !== this.theme || !this.ready.has(key)) return;
    this.ready.set(key, Spectrogram.coloured(image, ramp(theme)));
    this.redraw();
  }

  static coloured(image, table) {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    pen.drawImage(image, 0, 0);
    const pixels = pen.getImageData(0, 0, canvas.width, canvas.height);
    for (let index = 0; index < pixels.data.length; index += 4) {
      const grey = pixels.data[index] * 3;
      for (let part = 0; part < 3; part += 1) pixels.data[index + part] = table[grey + part];
    }
    pen.putImageData(pixels, 0, 0);
    return canvas;
  }
}
