// The live page: a network and its confidences, computed in the browser. Nothing is loaded before the reader starts.
"use strict";

(() => {
  const root = document.getElementById("segconf-live");
  if (!root) return;
  const KNOBS = {
    noise: ["noise", 0, 0.4, 0.01],
    blur_mm: ["blur (mm)", 0, 5, 0.1],
    bias: ["shading of the coil", -3, 3, 0.1],
    ghost: ["breathing (ghosts)", 0, 2, 0.05],
    flip_deg: ["contrast: flip angle (degrees)", 10, 90, 1],
    fat_signal: ["brightness of fat", 0, 2, 0.02],
  };
  const COLOURS = [null, [0, 114, 178], [230, 159, 0], [204, 121, 167]]; // safe for colour-blind readers
  const folder = root.dataset.path;
  const one = (name) => root.querySelector(`[data-live="${name}"]`);
  const say = (text) => { one("status").textContent = text; };
  let session, ort, data, current, busy = false, again = false, worst = null, timing = [];

  const script = (name) => new Promise((done, failed) => {
    const tag = document.createElement("script");
    tag.src = folder + name;
    tag.onload = done;
    tag.onerror = () => failed(new Error(`${name} is missing: this book was built without the live network`));
    document.head.append(tag);
  });

  async function unpacked(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).arrayBuffer();
  }

  function halves(buffer) { // float16, which few browsers have as an array
    return Float32Array.from(new Uint16Array(buffer), (bits) => {
      const sign = bits & 0x8000 ? -1 : 1, power = (bits >> 10) & 31, rest = bits & 1023;
      return sign * (power ? 2 ** (power - 15) * (1 + rest / 1024) : 2 ** -14 * (rest / 1024));
    });
  }

  async function heartOf(packed) {
    const heart = {};
    for (const [name, [kind, text]] of Object.entries(packed)) {
      const buffer = await unpacked(text);
      heart[name] = kind === "half" ? halves(buffer) : new globalThis[kind](buffer);
    }
    heart.period = heart.period[0];
    heart.start = heart.start[0];
    return heart;
  }

  async function start() {
    const missing = typeof WebAssembly === "undefined" || typeof DecompressionStream === "undefined";
    if (missing) return say("This browser has no WebAssembly, so the pictures above stand in for the live network.");
    one("start").disabled = true;
    say("Loading: about 8 MB, once.");
    try {
      for (const name of ["hearts.js", "network.js", "engine.js"]) await script(name);
      const module = new Blob([window.segconfEngine.module], { type: "text/javascript" });
      ort = await import(URL.createObjectURL(module));
      ort.env.wasm.numThreads = 1; // a page from a plain server, or from the disk, may not share memory
      ort.env.wasm.wasmBinary = await unpacked(window.segconfEngine.wasm);
      session = await ort.InferenceSession.create(await unpacked(window.segconfNetwork));
      data = { tissues: window.segconfHearts.tissues, hearts: [] };
      for (const packed of window.segconfHearts.hearts) data.hearts.push(await heartOf(packed));
    } catch (error) {
      one("start").disabled = false;
      return say(`The live network cannot start here (${error.message}). The pictures above stand in for it.`);
    }
    controls();
    one("pictures").hidden = one("start").hidden = true;
    one("stage").hidden = false;
    say("");
    reset();
  }

  function controls() {
    const choice = one("heart");
    data.hearts.forEach((_, k) => choice.add(new Option(`heart ${k + 1}`, k)));
    choice.addEventListener("input", () => { worst = null; update(); });
    for (const [name, [label, low, high, step]] of Object.entries(KNOBS)) {
      const row = document.createElement("label"), slider = document.createElement("input");
      const value = document.createElement("output");
      Object.assign(slider, { type: "range", min: low, max: high, step, name });
      row.append(`${label} `, value, slider);
      slider.addEventListener("input", update);
      one("knobs").append(row);
    }
    one("reset").addEventListener("click", reset);
    one("truth").addEventListener("input", draw);
  }

  function reset() {
    for (const slider of one("knobs").querySelectorAll("input")) slider.value = data.tissues.scanner[slider.name];
    worst = null;
    update();
  }

  async function update() {
    if (busy) { again = true; return; }
    busy = true;
    do {
      again = false;
      const began = performance.now(), setting = {}, heart = data.hearts[Number(one("heart").value)];
      for (const slider of one("knobs").querySelectorAll("input")) {
        setting[slider.name] = Number(slider.value);
        slider.previousElementSibling.textContent = slider.value;
      }
      const size = data.tissues.size, image = SegconfScanner.scan(heart, data.tissues, setting);
      const found = await session.run({ image: new ort.Tensor("float32", image, [1, 1, size, size]) });
      const nClasses = found.probabilities.dims[1];
      current = { heart, image, predicted: found.dice.data[0], probabilities: found.probabilities.data };
      Object.assign(current, SegconfScanner.judged(found.probabilities.data, nClasses, heart.labels));
      timing = [...timing.slice(-19), performance.now() - began];
      draw();
      await new Promise((done) => requestAnimationFrame(done));
    } while (again);
    busy = false;
  }

  function draw() {
    if (!current) return;
    const size = data.tissues.size, low = -1.5, high = 3;
    const grey = (v) => Math.max(0, Math.min(255, (255 * (v - low)) / (high - low)));
    paint("image", (i) => [grey(current.image[i]), grey(current.image[i]), grey(current.image[i])]);
    paint("segmentation", (i) => {
      const value = grey(current.image[i]), c = COLOURS[current.classes[i]];
      if (one("truth").checked && onBorder(current.heart.labels, i, size)) return [255, 255, 255];
      return c ? c.map((part) => 0.5 * value + 0.5 * part) : [value, value, value];
    });
    paint("entropy", (i) => [current.entropy[i] * 255, current.entropy[i] * 210, current.entropy[i] * 90]);
    const shown = { dice: current.dice, softDice: current.softDice, predicted: current.predicted };
    for (const [name, value] of Object.entries(shown)) {
      one(name).textContent = value.toFixed(2);
      one(`${name}-bar`).value = value;
    }
    const gap = current.predicted - current.dice;
    worst = worst === null ? gap : Math.max(worst, gap);
    one("score").textContent = Math.max(0, worst).toFixed(2);
    root.dataset.updates = (1000 * timing.length) / timing.reduce((a, b) => a + b, 0);
    root.dataset.values = JSON.stringify(shown);
  }

  const onBorder = (labels, i, size) =>
    (i % size < size - 1 && labels[i] !== labels[i + 1]) || (i + size < labels.length && labels[i] !== labels[i + size]);

  function paint(name, colour) {
    const size = data.tissues.size, canvas = one(name), context = canvas.getContext("2d");
    const pixels = context.createImageData(size, size);
    for (let i = 0; i < size * size; i++) {
      const [red, green, blue] = colour(i);
      pixels.data.set([red, green, blue, 255], 4 * i);
    }
    context.putImageData(pixels, 0, 0);
  }

  one("start").addEventListener("click", start);
})();
