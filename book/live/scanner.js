// A phantom heart on a scanner, as `segconf_lite.cohorts.phantom` computes it, without the variation from scan to
// scan. Pages load this file with a script tag; the tests run it in Node and compare the images.
"use strict";

const SegconfScanner = (() => {
  // Weights (length x n) of a cosine-smoothed linear interpolation between n knots.
  function interpolation(n, length) {
    const weights = new Float32Array(length * n);
    for (let i = 0; i < length; i++) {
      const position = (i * (n - 1)) / (length - 1);
      for (let k = 0; k < n; k++) {
        const weight = Math.max(1 - Math.abs(position - k), 0);
        weights[i * n + k] = (1 - Math.cos(Math.PI * weight)) / 2;
      }
    }
    return weights;
  }

  // (size x size) smooth field through (n x n) knots.
  function smoothField(knots, n, size) {
    const w = interpolation(n, size), rows = new Float32Array(size * n), field = new Float32Array(size * size);
    for (let i = 0; i < size; i++)
      for (let k = 0; k < n; k++) {
        let sum = 0;
        for (let m = 0; m < n; m++) sum += w[i * n + m] * knots[m * n + k];
        rows[i * n + k] = sum;
      }
    for (let i = 0; i < size; i++)
      for (let j = 0; j < size; j++) {
        let sum = 0;
        for (let k = 0; k < n; k++) sum += rows[i * n + k] * w[j * n + k];
        field[i * size + j] = sum;
      }
    return field;
  }

  // Signal of every tissue in a balanced SSFP sequence, relative to the blood of scanner A.
  function signals(tissues, setting) {
    const flip = (setting.flip_deg * Math.PI) / 180, tr = tissues.tr_ms;
    return tissues.names.map((name, k) => {
      const e1 = Math.exp(-tr / tissues.t1_ms[k]), e2 = Math.exp(-tr / tissues.t2_ms[k]);
      const steady = (Math.sin(flip) * (1 - e1)) / (1 - (e1 - e2) * Math.cos(flip) - e1 * e2);
      const fat = name === "fat" ? setting.fat_signal : 1;
      return (fat * tissues.density[k] * steady * Math.exp(-tr / 2 / tissues.t2_ms[k])) / tissues.reference;
    });
  }

  // Cosines and sines of the discrete Fourier transform, and the signed index of each frequency.
  const tables = new Map();
  function fourier(size) {
    if (!tables.has(size)) {
      const cos = new Float64Array(size), sin = new Float64Array(size), index = new Float64Array(size);
      for (let k = 0; k < size; k++) {
        cos[k] = Math.cos((2 * Math.PI * k) / size) / Math.sqrt(size);
        sin[k] = Math.sin((2 * Math.PI * k) / size) / Math.sqrt(size);
        index[k] = k < size / 2 ? k : k - size;
      }
      tables.set(size, { cos, sin, index });
    }
    return tables.get(size);
  }

  // Transform along rows, and hand the result over transposed: twice in a row is the transform in two dimensions.
  function transformed(re, im, size, sign, keep) {
    const { cos, sin } = fourier(size), outRe = new Float64Array(size * size), outIm = new Float64Array(size * size);
    for (let k = 0; k < size; k++) {
      if (keep && !keep[k]) continue;
      for (let i = 0; i < size; i++) {
        let sumRe = 0, sumIm = 0, step = 0;
        for (let j = 0, at = i * size; j < size; j++, at++) {
          const c = cos[step], s = sign * sin[step];
          sumRe += re[at] * c - im[at] * s;
          sumIm += re[at] * s + im[at] * c;
          step += k;
          if (step >= size) step -= size;
        }
        outRe[k * size + i] = sumRe;
        outIm[k * size + i] = sumIm;
      }
    }
    return [outRe, outIm];
  }

  // What does not change with the knobs is computed once per heart.
  function prepared(heart, size) {
    if (heart.fields) return heart.fields;
    const coarse = smoothField(heart.texture_coarse, 9, size), fine = smoothField(heart.texture_fine, 32, size);
    const texture = coarse.map((value, i) => 1 + 0.04 * value + 0.04 * fine[i]);
    heart.fields = { texture, coil: smoothField(heart.coil, 3, size), phase: smoothField(heart.phase, 3, size) };
    return heart.fields;
  }

  // Image (size x size) with mean 0 and standard deviation 1 of a heart on a scanner.
  function scan(heart, tissues, setting) {
    const size = tissues.size, n = size * size, { texture, coil, phase } = prepared(heart, size);
    const signal = signals(tissues, setting);
    let re = new Float64Array(n), im = new Float64Array(n);
    for (let i = 0; i < n; i++) {
      let value = 0;
      for (let t = 0; t < signal.length; t++) value += signal[t] * heart.fractions[t * n + i];
      const y = ((Math.floor(i / size) - (size - 1) / 2) * tissues.spacing_mm) / 100;
      value *= (texture[i] * Math.exp(-setting.bias * y + 0.2 * Math.abs(setting.bias) * coil[i])) / 65535;
      re[i] = value * Math.cos(0.3 * phase[i]);
      im[i] = value * Math.sin(0.3 * phase[i]);
    }
    const { index } = fourier(size), extent = size * tissues.spacing_mm, kMax = 0.5 / tissues.pixel_mm;
    const sampled = Array.from(index, (line) => Math.abs(line) / extent <= kMax);
    const share = sampled.filter(Boolean).length / size, perSample = setting.noise / share;
    const least = -kMax * (2 * (setting.partial_fourier ?? 1) - 1);
    const sampledRows = sampled.map((there, v) => there && index[v] / extent >= least);
    // After both transforms re[ky * size + kx]: the first one leaves (kx, y), the second one (ky, kx).
    [re, im] = transformed(re, im, size, -1, sampled);
    [re, im] = transformed(re, im, size, -1, sampledRows);
    const decay = 2 * Math.PI ** 2 * setting.blur_mm ** 2;
    for (let v = 0; v < size; v++) {
      const error = setting.ghost * Math.sin((2 * Math.PI * index[v]) / heart.period + heart.start);
      const c = Math.cos(error), s = Math.sin(error), ky = index[v] / extent;
      for (let u = 0; u < size; u++) {
        const at = v * size + u, kx = index[u] / extent;
        if (!(sampled[u] && sampledRows[v])) continue;
        const damp = Math.exp(-decay * (ky * ky + kx * kx)), a = re[at] * damp, b = im[at] * damp;
        re[at] = a * c - b * s + perSample * heart.noise[at];
        im[at] = a * s + b * c + perSample * heart.noise[n + at];
      }
    }
    [re, im] = transformed(re, im, size, 1);
    [re, im] = transformed(re, im, size, 1);
    return finished(re, im, setting.gamma ?? 1, tissues.clip_percentile);
  }

  // Magnitude, saturation of the brightest pixels, intensity curve, mean 0 and standard deviation 1.
  function finished(re, im, gamma, clip) {
    const n = re.length, image = new Float32Array(n);
    for (let i = 0; i < n; i++) image[i] = Math.hypot(re[i], im[i]);
    const top = Math.max(Float32Array.from(image).sort()[Math.min(Math.floor((clip / 100) * n), n - 1)], 1e-12);
    let mean = 0, square = 0;
    for (let i = 0; i < n; i++) mean += image[i] = Math.min(image[i] / top, 1) ** gamma;
    mean /= n;
    for (let i = 0; i < n; i++) square += (image[i] - mean) ** 2;
    const sd = Math.max(Math.sqrt(square / n), 1e-12);
    return image.map((value) => (value - mean) / sd);
  }

  // Classes, entropy per pixel in [0, 1], soft Dice confidence, and the true Dice, from probabilities (C x n).
  function judged(probabilities, nClasses, labels) {
    const n = labels.length, classes = new Uint8Array(n), entropy = new Float32Array(n);
    const sums = new Float64Array(nClasses), mass = new Float64Array(nClasses);
    const predicted = new Float64Array(nClasses), real = new Float64Array(nClasses), both = new Float64Array(nClasses);
    for (let i = 0; i < n; i++) {
      let best = 0, doubt = 0;
      for (let c = 0; c < nClasses; c++) {
        const p = probabilities[c * n + i];
        if (p > probabilities[best * n + i]) best = c;
        if (p > 0) doubt -= p * Math.log(p);
        sums[c] += p;
      }
      classes[i] = best;
      entropy[i] = doubt / Math.log(nClasses);
      mass[best] += probabilities[best * n + i];
      predicted[best] += 1;
      real[labels[i]] += 1;
      if (best === labels[i]) both[best] += 1;
    }
    let soft = 0, dice = 0, there = 0;
    for (let c = 1; c < nClasses; c++) {
      soft += sums[c] + predicted[c] > 0 ? (2 * mass[c]) / (sums[c] + predicted[c]) / (nClasses - 1) : 0;
      if (real[c] + predicted[c] > 0) {
        dice += (2 * both[c]) / (real[c] + predicted[c]);
        there += 1;
      }
    }
    return { classes, entropy, softDice: soft, dice: there ? dice / there : NaN };
  }

  return { scan, judged, smoothField };
})();

if (typeof module !== "undefined") module.exports = SegconfScanner;
