// The live page: a network and its confidences, computed in the browser. Nothing is loaded before the reader starts.
"use strict";

(() => {
  const root = document.getElementById("segconf-live");
  if (!root) return;
  const { KNOBS, onStart, latest, paint, paintImage, paintClasses, slider } = SegconfLive;
  const one = (name) => root.querySelector(`[data-live="${name}"]`);
  let live, current, worst = null, timing = [];

  async function ready(found) {
    live = found;
    const choice = one("heart");
    live.hearts.forEach((_, k) => choice.add(new Option(`heart ${k + 1}`, k)));
    choice.addEventListener("input", () => { worst = null; update(); });
    for (const [name, knob] of Object.entries(KNOBS)) one("knobs").append(slider(name, knob, update));
    one("reset").addEventListener("click", reset);
    one("truth").addEventListener("input", draw);
    one("pictures").hidden = true;
    await reset();
  }

  function reset() {
    for (const knob of one("knobs").querySelectorAll("input")) knob.value = live.scanners.A.scanner[knob.name];
    worst = null;
    return update();
  }

  const update = latest(async () => {
    const began = performance.now(), setting = { ...live.scanners.A.scanner };
    const heart = live.hearts[Number(one("heart").value)];
    for (const knob of one("knobs").querySelectorAll("input")) {
      setting[knob.name] = Number(knob.value);
      knob.previousElementSibling.textContent = knob.value.replace("-", "−");
    }
    const image = SegconfScanner.scan(heart, live.scanners.A, setting);
    const { probabilities, dice } = await live.run({ image });
    current = { heart, image, predicted: dice[0] };
    const nClasses = probabilities.length / image.length;
    Object.assign(current, SegconfScanner.judged(probabilities, nClasses, heart.labels));
    timing = [...timing.slice(-19), performance.now() - began];
    draw();
  });

  function draw() {
    if (!current) return;
    const { size } = live, truth = one("truth").checked ? current.heart.labels : null;
    paintImage(one("image"), size, current.image);
    paintClasses(one("segmentation"), size, current.image, current.classes, truth);
    paint(one("entropy"), size, (i) => [current.entropy[i] * 255, current.entropy[i] * 210, current.entropy[i] * 90]);
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

  onStart(root, { file: "network.js", ready });
})();
