// Speech quicker or slower at its own pitch (WSOLA, Verhelst and Roelands 1993): pieces of the signal are laid
// closer or wider apart, each moved a little to where it goes on best from the one before.

const PIECE_S = 0.05;
const SEARCH_S = 0.008; // more than half a period of a low voice

function stretch(samples, speed, rate) {
  const half = Math.round((PIECE_S * rate) / 2);
  const search = Math.round(SEARCH_S * rate);
  const length = Math.round(samples.length / speed);
  const out = new Float32Array(length);
  const rise = Float32Array.from({ length: half }, (_, index) => 0.5 - 0.5 * Math.cos((Math.PI * (index + 0.5)) / half));
  let natural = null; // where the piece before would go on
  for (let to = -half; to < length; to += half) {
    const wanted = Math.round((to + half) * speed) - half;
    const from = natural === null ? wanted : bestPlace(samples, natural, wanted, search, half);
    for (let index = Math.max(0, -to, -from); index < 2 * half && to + index < length && from + index < samples.length; index += 1) {
      const weight = index < half ? rise[index] : rise[2 * half - 1 - index];
      out[to + index] += weight * samples[from + index];
    }
    natural = from + half;
  }
  return out;
}

// Where near `wanted` the signal is most alike to what follows at `natural`.
function bestPlace(samples, natural, wanted, search, size) {
  let [best, highest] = [wanted, -Infinity];
  for (let place = wanted - search; place <= wanted + search; place += 2) {
    let [product, power] = [0, 1e-9];
    for (let index = 0; index < size; index += 2) {
      const sample = samples[place + index] ?? 0;
      product += sample * (samples[natural + index] ?? 0);
      power += sample * sample;
    }
    const likeness = product / Math.sqrt(power);
    if (likeness > highest) [best, highest] = [place, likeness];
  }
  return best;
}
