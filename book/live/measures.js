// What the live figures compute from the outputs of a network, as the package does; the tests compare the two.
"use strict";

const SegconfMeasures = (() => {
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

  // Order of the cases from most to least trusted.
  const trusted = (uncertainty) => uncertainty.map((_, i) => i).sort((a, b) => uncertainty[a] - uncertainty[b]);

  // Mean risk of the k most trusted cases for k = 1 to n; cases of equal uncertainty share their mean risk.
  function selectiveRisk(risk, uncertainty) {
    const shared = risk.map((_, i) => mean(risk.filter((_, j) => uncertainty[j] === uncertainty[i])));
    let sum = 0;
    return trusted(uncertainty).map((i, k) => (sum += shared[i]) / (k + 1));
  }

  // Area under that curve beyond the area of the best possible ranking.
  const excessAurc = (risk, uncertainty) => mean(selectiveRisk(risk, uncertainty)) - mean(selectiveRisk(risk, risk));

  // Fewest calibration cases for a promise at a level, and the k-th smallest of the scores that keeps it.
  const fewestCases = (level) => Math.ceil(1 / (1 - level) - 1e-9) - 1;
  function conformalQuantile(scores, level) {
    if (scores.length < fewestCases(level)) return NaN;
    const rank = Math.max(1, Math.ceil((scores.length + 1) * level - 1e-9));
    return [...scores].sort((a, b) => a - b)[rank - 1];
  }

  // Closed-form cost (n) of flipping the label of each pixel over the last layer, in nats per training pixel.
  // Features (D x n); weight (C x (D + 1)); factors, one (D + 1) x (D + 1) matrix for each pair of classes.
  function flipCost(features, { weight, factors }) {
    const width = weight[0].length, n = features.length / (width - 1), costs = new Float64Array(n);
    const f = new Float64Array(width);
    for (let i = 0; i < n; i++) {
      for (let d = 0; d < width - 1; d++) f[d] = features[d * n + i];
      f[width - 1] = 1;
      const logits = weight.map((row) => row.reduce((sum, w, d) => sum + w * f[d], 0));
      const best = logits.indexOf(Math.max(...logits));
      let cost = Infinity, pair = 0;
      for (let a = 0; a < weight.length; a++)
        for (let b = a + 1; b < weight.length; b++, pair++) {
          if (a !== best && b !== best) continue;
          let leverage = 0;
          for (let e = 0; e < width; e++) {
            let part = 0;
            for (let d = 0; d < width; d++) part += f[d] * factors[pair][d * width + e];
            leverage += part * part;
          }
          cost = Math.min(cost, (logits[a] - logits[b]) ** 2 / (2 * leverage));
        }
      costs[i] = cost;
    }
    return costs;
  }

  // Every pixel moves by reach in the direction of its entry in the slope.
  const stepped = (image, slope, reach) => image.map((value, i) => value + reach * Math.sign(slope[i]));

  // Labels (n) as 0 and 1 for each class (C x n).
  function oneHot(labels, nClasses) {
    const found = new Float32Array(nClasses * labels.length);
    labels.forEach((label, i) => { found[label * labels.length + i] = 1; });
    return found;
  }

  return { selectiveRisk, excessAurc, trusted, fewestCases, conformalQuantile, flipCost, stepped, oneHot };
})();

if (typeof module !== "undefined") module.exports = SegconfMeasures;
