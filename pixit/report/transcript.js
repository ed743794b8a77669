// Who said what: lines of the words of one speaker, what is being said marked in them, and what is looked for.

const LINE_GAP_S = 1; // words of one speaker that are closer stand on one line
const LINE_S = 20; // a line holds no more than about this

// Letters without case and accents.
const plain = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();

class Transcript {
  constructor(data, turns, section) {
    Object.assign(this, { words: data.words, turns, section, found: [], place: -1, marked: new Set() });
    this.list = section.querySelector("ol");
    this.result = section.querySelector("output");
    this.texts = data.words.map((word) => plain(word[2]));
    this.longest = data.words.reduce((most, [start, end]) => Math.max(most, end - start), 0);
    section.hidden = !data.words.length;
    this.build();
  }

  // Lists of the places of the words that stand on one line.
  lines() {
    const lines = [];
    const owners = this.turns.state.words;
    this.words.forEach(([start, end, , , speaker], place) => {
      const line = lines.at(-1);
      const [first, last] = line ? [this.words[line[0]], this.words[line.at(-1)]] : [];
      const isSame = line && owners[line[0]] === owners[place] && (owners[place] >= 0 || first[4] === speaker);
      if (isSame && start - last[1] <= LINE_GAP_S && end - first[0] <= LINE_S) line.push(place);
      else lines.push([place]);
    });
    return lines;
  }

  // Made anew when words were given to another speaker, or someone was renamed.
  build() {
    const { words: owners, names } = this.turns.state;
    if (this.owners === owners && this.names === names) return;
    Object.assign(this, { owners, names, marked: new Set() });
    this.spans = [];
    this.list.replaceChildren(...this.lines().map((line) => {
      const [start, , , , speaker] = this.words[line[0]];
      const lane = owners[line[0]];
      const item = document.createElement("li");
      item.style.setProperty("--colour", lane < 0 ? "var(--faint)" : this.colourOf(lane));
      const seek = item.appendChild(document.createElement("button"));
      Object.assign(seek, { type: "button", textContent: clock(start) });
      seek.dataset.seek = start;
      item.appendChild(document.createElement("b")).textContent = lane < 0 ? speaker : names[lane];
      const text = item.appendChild(document.createElement("p"));
      for (const place of line) {
        const span = text.appendChild(document.createElement("span"));
        span.textContent = this.words[place][2];
        span.dataset.word = place;
        this.spans[place] = span;
        text.append(" ");
      }
      return item;
    }));
    this.showFound();
  }

  colourOf(lane) {
    return document.querySelector(`.lane[data-lane="${lane}"]`).style.getPropertyValue("--colour");
  }

  // Marks what is being said; words are ordered by start, and the longest of them ends the search.
  mark(position) {
    const now = new Set();
    const end = firstPlace(this.words, ([start]) => start > position);
    for (let index = end - 1; index >= 0 && this.words[index][0] >= position - this.longest; index -= 1) {
      if (this.words[index][1] > position) now.add(index);
    }
    for (const index of this.marked) if (!now.has(index)) this.spans[index].classList.remove("now");
    for (const index of now) {
      if (this.marked.has(index)) continue;
      this.spans[index].classList.add("now");
      this.reveal(index);
    }
    this.marked = now;
  }

  // Scrolls within the transcript only: the page itself stays where the reader has put it.
  reveal(index) {
    const { list } = this;
    const line = this.spans[index].closest("li");
    const isSeen = line.offsetTop >= list.scrollTop && line.offsetTop + line.offsetHeight <= list.scrollTop + list.clientHeight;
    if (!isSeen) list.scrollTop = line.offsetTop - list.clientHeight / 3;
  }

  search(text) {
    const wanted = plain(text.trim());
    this.found = wanted ? this.texts.flatMap((words, place) => (words.includes(wanted) ? [place] : [])) : [];
    this.place = -1;
    this.isSearched = wanted !== "";
    this.showFound();
  }

  // Goes to the next place that was found, or the one before (-1); returns its time.
  step(by) {
    if (!this.found.length) return null;
    this.place = (Math.max(this.place, by < 0 ? 0 : -1) + by + this.found.length) % this.found.length;
    this.showFound();
    this.reveal(this.found[this.place]);
    return this.words[this.found[this.place]][0];
  }

  showFound() {
    for (const span of this.list.querySelectorAll(".found")) span.classList.remove("found", "here");
    this.found.forEach((place, index) => {
      this.spans[place].classList.add("found");
      this.spans[place].classList.toggle("here", index === this.place);
    });
    const number = this.place < 0 ? `${this.found.length} found` : `${this.place + 1} of ${this.found.length}`;
    this.result.value = this.isSearched ? number : "";
  }
}
