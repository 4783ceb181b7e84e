// The engine of all live pages: loads hearts and networks when a reader asks for them, runs networks, draws images.
"use strict";

const SegconfLive = (() => {
  const COLOURS = [null, [86, 180, 233], [230, 159, 0], [204, 121, 167]]; // safe for colour-blind readers
  const KNOBS = {
    noise: ["noise", 0, 0.4, 0.01],
    blur_mm: ["blur (mm)", 0, 5, 0.1],
    bias: ["shading of the coil", -3, 3, 0.1],
    ghost: ["breathing (ghosts)", 0, 2, 0.05],
    flip_deg: ["contrast: flip angle (degrees)", 10, 90, 1],
    fat_signal: ["brightness of fat", 0, 2, 0.02],
  };

  const script = (address, name) => new Promise((done, failed) => {
    const tag = document.createElement("script");
    tag.src = address + name;
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

  // Hearts, scanners, and a function that runs the network of a file ("network.js" or "gradient.js").
  async function loaded(address, file, more = []) {
    for (const name of ["hearts.js", file, ...more, "engine.js"]) await script(address, name);
    const module = new Blob([window.segconfEngine.module], { type: "text/javascript" });
    const ort = await import(URL.createObjectURL(module));
    ort.env.wasm.numThreads = 1; // a page from a plain server, or from the disk, may not share memory
    ort.env.wasm.wasmBinary = await unpacked(window.segconfEngine.wasm);
    const network = file === "network.js" ? window.segconfNetwork : window.segconfGradient;
    const session = await ort.InferenceSession.create(await unpacked(network));
    const hearts = [], { scanners } = window.segconfHearts, { size } = scanners.A;
    for (const packed of window.segconfHearts.hearts) hearts.push(await heartOf(packed));
    const run = async (inputs) => {
      const feeds = {};
      for (const [name, values] of Object.entries(inputs))
        feeds[name] = new ort.Tensor("float32", values, [1, values.length / (size * size), size, size]);
      const found = {};
      for (const [name, tensor] of Object.entries(await session.run(feeds))) found[name] = tensor.data;
      return found;
    };
    return { hearts, scanners, size, run };
  }

  // The button of a page: loads what the page needs, shows its stage, and says why where that is not possible.
  function onStart(root, { file, more, ready }) {
    const one = (name) => root.querySelector(`[data-live="${name}"]`);
    const say = (text) => { one("status").textContent = text; };
    one("start").addEventListener("click", async () => {
      const missing = typeof WebAssembly === "undefined" || typeof DecompressionStream === "undefined";
      if (missing) return say("This browser has no WebAssembly, so the live network cannot run; the page shows pictures instead.");
      one("start").disabled = true;
      say("Loading: about 8 MB, once.");
      try {
        await ready(await loaded(root.dataset.path, file, more), say);
      } catch (error) {
        one("start").disabled = false;
        return say(`The live network cannot start here (${error.message}). The pictures of this page stand in for it.`);
      }
      one("start").hidden = true;
      one("stage").hidden = false;
      say("");
    });
  }

  // Runs the work again after calls that came while it was busy, once for all of them.
  function latest(work) {
    let busy = false, again = false;
    return async () => {
      if (busy) { again = true; return; }
      busy = true;
      try {
        do {
          again = false;
          await work();
          await new Promise((done) => requestAnimationFrame(done));
        } while (again);
      } finally {
        busy = false;
      }
    };
  }

  const grey = (value) => Math.max(0, Math.min(255, (255 * (value + 1.5)) / 4.5));
  const onBorder = (labels, i, size) =>
    (i % size < size - 1 && labels[i] !== labels[i + 1]) || (i + size < labels.length && labels[i] !== labels[i + size]);

  function paint(canvas, size, colour) {
    const context = canvas.getContext("2d"), pixels = context.createImageData(size, size);
    for (let i = 0; i < size * size; i++) {
      const [red, green, blue] = colour(i);
      pixels.data.set([red, green, blue, 255], 4 * i);
    }
    context.putImageData(pixels, 0, 0);
  }

  const paintImage = (canvas, size, image) => paint(canvas, size, (i) => Array(3).fill(grey(image[i])));

  // Image with the classes in colour, and the true borders in white where labels are given.
  const paintClasses = (canvas, size, image, classes, labels) => paint(canvas, size, (i) => {
    const value = grey(image[i]), c = COLOURS[classes[i]];
    if (labels && onBorder(labels, i, size)) return [255, 255, 255];
    return c ? c.map((part) => 0.5 * value + 0.5 * part) : [value, value, value];
  });

  // A slider in its label, with its value beside the name.
  function slider(name, [label, low, high, step], onInput) {
    const row = document.createElement("label"), input = document.createElement("input");
    Object.assign(input, { type: "range", min: low, max: high, step, name });
    row.append(`${label} `, document.createElement("output"), input);
    input.addEventListener("input", onInput);
    return row;
  }

  return { KNOBS, onStart, latest, paint, paintImage, paintClasses, slider };
})();
