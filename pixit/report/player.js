// Plays clips of all lanes on one clock. Each clip is decoded shortly before it is heard and started at its
// sample on the clock of the audio hardware, so lanes cannot drift, and hours of sound cost no memory.

const AHEAD_S = 4; // how far ahead of the cursor clips are started
const LEAD_S = 0.05; // from pressing play to the first sample
const MAX_DECODED = 32; // clips kept decoded

class Player {
  // data: what the page knows of the recording; clips: for each lane, base64 of its clips, "" for silence
  constructor(data, clips) {
    Object.assign(this, { data, clips, playing: false, offset: 0, startedAt: null, run: 0 });
    this.volume = 1;
    this.speed = 1;
    this.part = null; // {start, end, again}: where playing stops, or begins anew
    this.muted = false;
    this.lanes = clips.map((_, index) => ({
      gain: 1,
      muted: data.lanes[index].kind === "track",
      solo: false,
      started: new Set(),
      sources: new Set(),
    }));
    this.decoded = new Map();
    this.onchange = () => {};
    this.onerror = () => {};
  }

  get position() {
    if (!this.playing || this.startedAt === null) return this.offset;
    const played = Math.max(0, this.context.currentTime - this.startedAt) * this.speed;
    return Math.min(this.end, this.offset + played);
  }

  get end() {
    return this.part?.end ?? this.data.duration;
  }

  audible(lane) {
    return this.lanes.some((other) => other.solo) ? lane.solo : !lane.muted;
  }

  async play() {
    if (this.playing || this.data.sound === "none") return;
    const isInside = this.part && this.position >= this.part.start && this.position < this.part.end - 0.01;
    if (this.part && !isInside) {
      if (this.part.again) this.offset = this.part.start;
      else this.part = null;
    }
    if (this.position >= this.data.duration - 0.01) this.offset = 0;
    this.playing = true;
    this.onchange();
    this.prepare();
    await this.context.resume();
    await this.begin();
  }

  pause() {
    this.offset = this.position;
    this.playing = false;
    this.silence();
    this.onchange();
  }

  // Plays [start, end) once, or over and over.
  async playPart(start, end, again = false) {
    this.part = { start, end, again };
    await this.move(start);
    await this.play();
  }

  // Goes elsewhere; what is there is played on beyond the part that was to be played.
  async seek(time) {
    if (this.part && !(time >= this.part.start && time < this.part.end)) this.part = null;
    await this.move(time);
  }

  async setSpeed(speed) {
    const { position } = this;
    this.speed = speed;
    await this.move(position);
  }

  async move(time) {
    this.silence();
    // a whole number of samples, so that clips follow each other without a gap
    const rate = this.data.sampleRate;
    this.offset = Math.round(Math.min(this.data.duration, Math.max(0, time)) * rate) / rate;
    this.onchange();
    if (this.playing) await this.begin();
  }

  prepare() {
    if (this.context) return;
    this.context = new AudioContext({ sampleRate: this.data.sampleRate });
    this.output = this.context.createGain();
    this.output.connect(this.context.destination);
    for (const lane of this.lanes) {
      lane.node = this.context.createGain();
      lane.analyser = this.context.createAnalyser();
      lane.analyser.fftSize = 1024;
      lane.node.connect(lane.analyser).connect(this.output);
    }
    this.mix(0);
  }

  // Starts the clock once the clips under the cursor are decoded; a later seek or pause overtakes this.
  async begin() {
    const run = this.run;
    const index = Math.floor(this.offset / this.data.clip);
    const heard = this.lanes.flatMap((lane, number) => (this.audible(lane) ? [number] : []));
    await Promise.all(heard.map((number) => this.decode(number, index)));
    if (run !== this.run || !this.playing) return;
    const rate = this.data.sampleRate;
    this.startedAt = Math.ceil((this.context.currentTime + LEAD_S) * rate) / rate;
    this.fill();
    this.timer = setInterval(() => this.fill(), 40);
  }

  silence() {
    this.run += 1;
    this.startedAt = null;
    clearInterval(this.timer);
    for (const lane of this.lanes) {
      for (const source of lane.sources) source.stop();
      lane.sources.clear();
      lane.started.clear();
    }
  }

  fill() {
    const position = this.position;
    if (position >= this.end) {
      if (this.part?.again) this.move(this.part.start);
      else this.pause();
      return;
    }
    const last = Math.min(position + AHEAD_S * this.speed, this.end - 1e-6);
    this.lanes.forEach((lane, number) => {
      if (!this.audible(lane)) return;
      for (let index = Math.floor(position / this.data.clip); index * this.data.clip <= last; index += 1) {
        if (!lane.started.has(index)) this.start(number, index);
      }
    });
  }

  async start(number, index) {
    const lane = this.lanes[number];
    const run = this.run;
    lane.started.add(index);
    const buffer = await this.decode(number, index);
    if (buffer === null || run !== this.run) return;
    const { clip, margin, sampleRate } = this.data;
    const { speed } = this;
    const begin = index * clip;
    const end = Math.min(begin + clip, this.end);
    let from = Math.max(begin, this.offset);
    const late = this.context.currentTime + 0.01 - (this.startedAt + (from - this.offset) / speed);
    if (late > 0) from += (speed * Math.ceil(late * sampleRate)) / sampleRate;
    if (from >= end) return;
    const source = this.context.createBufferSource();
    source.buffer = buffer;
    source.connect(lane.node);
    source.onended = () => lane.sources.delete(source);
    source.start(this.startedAt + (from - this.offset) / speed, (margin + from - begin) / speed, (end - from) / speed);
    lane.sources.add(source);
  }

  // Promise of the decoded clip as it sounds at a speed, null for silence.
  decode(number, index, speed = this.speed) {
    const key = `${number}:${index}:${speed}`;
    const text = this.clips[number][index];
    if (!text) return Promise.resolve(null);
    const found = this.decoded.get(key) ?? this.decodeText(text, speed);
    this.decoded.delete(key);
    this.decoded.set(key, found); // the last used is the last to go
    if (this.decoded.size > MAX_DECODED) this.decoded.delete(this.decoded.keys().next().value);
    return found;
  }

  async decodeText(text, speed) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    try {
      const buffer = await this.context.decodeAudioData(bytes.buffer);
      if (speed === 1) return buffer;
      const samples = stretch(buffer.getChannelData(0), speed, buffer.sampleRate);
      const changed = this.context.createBuffer(1, samples.length, buffer.sampleRate);
      changed.copyToChannel(samples, 0);
      return changed;
    } catch {
      this.onerror(`This browser cannot decode ${this.data.sound} sound.`);
      return null;
    }
  }

  // Brings gains in line with volume, mute and solo; what has become audible starts at once.
  mix(glide = 0.01) {
    this.onchange();
    if (!this.context) return;
    const now = this.context.currentTime;
    this.output.gain.setTargetAtTime(this.muted ? 0 : this.volume, now, glide);
    for (const lane of this.lanes) {
      lane.node.gain.setTargetAtTime(this.audible(lane) ? lane.gain : 0, now, glide);
    }
    if (this.playing && this.startedAt !== null) this.fill();
  }

  // Loudest sample of a lane just now.
  level(number) {
    const { analyser } = this.lanes[number];
    if (!analyser) return 0;
    const samples = new Float32Array(analyser.fftSize);
    analyser.getFloatTimeDomainData(samples);
    return samples.reduce((peak, sample) => Math.max(peak, Math.abs(sample)), 0);
  }
}
