// What the page gives away: turns and words as files that pixit and others read, and the sound of a track.

// The name as files and RTTM can hold it, as `file_name` of pixit.files.
const fileName = (name) => name.replace(/[\s<>:"/\\|?*\x00-\x1f\x7f\x85]/g, "_").replace(/^\.+/, "_") || "_";
const oneLine = (text) => text.replace(/[\x00-\x1f\x7f]+/g, " ").trim();

class Saving {
  constructor(data, turns) {
    Object.assign(this, { data, turns });
  }

  // [{speaker, start, end}] in order of time.
  list() {
    const { names } = this.turns.state;
    const all = this.turns.tracks.flatMap((lane) => this.turns.of(lane).map((turn) => ({ speaker: names[lane], ...turn })));
    return all.sort((one, other) => one.start - other.start || one.end - other.end);
  }

  rttm() {
    return this.list().map(({ speaker, start, end }) =>
      `SPEAKER ${this.data.name} 1 ${start.toFixed(3)} ${(end - start).toFixed(3)} <NA> <NA> ${fileName(speaker)} <NA> <NA>\n`).join("");
  }

  labels() {
    return this.list().map(({ speaker, start, end }) => `${start.toFixed(6)}\t${end.toFixed(6)}\t${oneLine(speaker)}\n`).join("");
  }

  words() {
    const { names, words } = this.turns.state;
    return this.data.words.map(([start, end, text, , speaker], index) => ({
      speaker: words[index] < 0 ? speaker : names[words[index]],
      start_time: inMilliseconds(start),
      end_time: inMilliseconds(end),
      words: text,
    }));
  }

  // The transcript; without one, turns without words.
  seglst() {
    const said = this.data.words.length ? this.words()
      : this.list().map(({ speaker, start, end }) => ({ speaker, start_time: start, end_time: end, words: "" }));
    return json(said.map((segment) => ({ session_id: this.data.uri, ...segment })));
  }

  // For `pixit correct`.
  corrections() {
    const { uri, made } = this.data;
    const speakers = this.turns.tracks.map((lane) => this.turns.state.names[lane]);
    return json({ pixit: "corrections", uri, made, speakers, turns: this.list(), words: this.words() });
  }

  // A track as a wav file of 16 bits, clip by clip.
  async wav(player, lane) {
    const { clip, margin, duration, sampleRate } = this.data;
    const [skipped, total] = [Math.round(margin * sampleRate), Math.round(duration * sampleRate)];
    const parts = [wavHeader(total, sampleRate)];
    player.prepare();
    for (let index = 0; index * clip < duration; index += 1) {
      const length = Math.min(clip * sampleRate, total - index * clip * sampleRate);
      const buffer = await player.decode(lane, index, 1);
      const samples = buffer ? buffer.getChannelData(0).subarray(skipped, skipped + length) : [];
      parts.push(Int16Array.from({ length }, (_, place) =>
        Math.max(-32768, Math.min(32767, Math.round((samples[place] ?? 0) * 32768)))));
    }
    return new Blob(parts, { type: "audio/wav" });
  }
}

const json = (content) => `${JSON.stringify(content, null, 1)}\n`;

function wavHeader(numSamples, rate) {
  const header = new DataView(new ArrayBuffer(44));
  const text = (place, letters) => [...letters].forEach((letter, index) => header.setUint8(place + index, letter.charCodeAt(0)));
  text(0, "RIFF");
  header.setUint32(4, 36 + 2 * numSamples, true);
  text(8, "WAVEfmt ");
  header.setUint32(16, 16, true);
  header.setUint16(20, 1, true); // PCM
  header.setUint16(22, 1, true); // mono
  header.setUint32(24, rate, true);
  header.setUint32(28, 2 * rate, true);
  header.setUint16(32, 2, true);
  header.setUint16(34, 16, true);
  text(36, "data");
  header.setUint32(40, 2 * numSamples, true);
  return header.buffer;
}

function download(name, content) {
  const link = document.createElement("a");
  link.download = name;
  link.href = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type: "text/plain" }));
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
