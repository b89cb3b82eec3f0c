// The table of false-accept rates and distances, as pure functions. Rates fall along it: strict is last.

/** Return the rows of the model, the most lenient first. */
export function sortRows(rows) {
  return [...rows].sort((a, b) => b.far - a.far);
}

/** Return the place of the row whose rate is nearest to 1 in 1,000, by ratio: where a comparison begins. */
export function startRow(rows) {
  const gap = (row) => Math.abs(Math.log(row.far / 0.001));
  return rows.reduce((best, row, index) => (gap(row) < gap(rows[best]) ? index : best), 0);
}

/** Return whether two faces count as the same person: at the threshold they do. */
export function isSame(distance, row) {
  return distance <= row.distance;
}

/** Return the end of a scale that shows every threshold and the distance with room to spare; distances end at 4. */
export function scaleEnd(rows, distance) {
  const wanted = 1.15 * Math.max(distance, ...rows.map((row) => row.distance));
  return [0.3, 0.4, 0.5, 0.6, 0.8, 1, 1.2, 1.5, 2, 2.5, 3].find((end) => end >= wanted) ?? 4;
}

/** Return a rate as words need it: one in `n`, and in percent. */
export function rateArgs(far) {
  return { n: Math.round(1 / far), percent: percentOf(far) };
}

/** Return a rate in percent, in three digits. */
export function percentOf(far) {
  return Number((100 * far).toPrecision(3));
}

/** Return the key of the words for a rate among people of a population. */
export function rateKey(population) {
  return `far.rate_${population}`;
}

/** Return a distance as it is shown. */
export function roundDistance(distance) {
  return distance.toFixed(4);
}
