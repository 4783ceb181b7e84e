// The live figures inside chapters 2, 4, 5, 8 and 9: the same hearts, scanners and networks as on the live page.
"use strict";

(() => {
  const root = document.querySelector("[data-figure]");
  if (!root) return;
  const { KNOBS, onStart, latest, paint, paintImage, paintClasses, slider } = SegconfLive;
  const M = SegconfMeasures, stage = root.querySelector('[data-live="stage"]');
  const INK = { blue: "#0072b2", orange: "#e69f00", pink: "#cc79a7" }; // safe for colour-blind readers
  const signed = (text) => text.replaceAll(/(^|e)-/g, "$1−");
  const say = (...knobs) => knobs.forEach((knob) => { knob.previousElementSibling.textContent = signed(knob.value); });
  const percent = (value) => `${(100 * value).toFixed(0)} %`;
  let live;

  // -- parts of a page ------------------------------------------------------------------------------------------
  function add(parent, tag, attributes = {}, text = "") {
    const made = Object.assign(document.createElement(tag), attributes);
    made.append(text);
    parent.append(made);
    return made;
  }

  function choice(parent, label, options, onInput) {
    const select = add(add(parent, "label", {}, `${label}: `), "select", { name: label });
    options.forEach(([text, value]) => select.add(new Option(text, value)));
    select.addEventListener("input", onInput);
    return select;
  }

  const hearts = (parent, onInput) =>
    choice(parent, "heart", live.hearts.map((_, k) => [`heart ${k + 1}`, k]), onInput);
  const scanners = (parent, onInput) =>
    choice(parent, "scanner", Object.keys(live.scanners).map((name) => [`scanner ${name}`, name]), onInput);

  function sliderIn(parent, name, knob, start, onInput) {
    const row = slider(name, knob, onInput), input = row.querySelector("input");
    input.value = start;
    parent.append(row);
    return input;
  }

  function pictures(parent, names) {
    const row = add(parent, "div", { className: "live-pictures-row" });
    return names.map((name) => {
      const figure = add(row, "figure"), canvas = add(figure, "canvas", { width: live.size, height: live.size });
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", name);
      add(figure, "figcaption", {}, name);
      return canvas;
    });
  }

  function rows(table, values) {
    table.replaceChildren();
    for (const [name, ...cells] of values) {
      const row = add(table, "tr");
      add(row, "th", { scope: "row" }, name);
      cells.forEach((cell) => add(row, "td", {}, signed(cell)));
    }
  }

  // Lines and marks over two axes; what a reader cannot see stands in the table beside it.
  function chart(svg, { x, y, xLabel, yLabel, xTicks, lines = [], marks = [] }) {
    const W = 360, H = 230, left = 44, bottom = 40, space = "http://www.w3.org/2000/svg";
    const at = (value, [low, high], from, to) => from + ((value - low) / (high - low)) * (to - from);
    const px = (value) => at(value, x, left, W - 8), py = (value) => at(value, y, H - bottom, 8);
    const draw = (tag, attributes, text = "") => {
      const made = document.createElementNS(space, tag);
      for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
      made.textContent = text;
      svg.append(made);
    };
    svg.replaceChildren();
    svg.setAttribute("viewBox", `0 0 ${W} ${H}`);
    draw("path", { d: `M${left} 8V${H - bottom}H${W - 8}`, fill: "none", stroke: "currentColor" });
    const parts = ([low, high]) => [low, (low + high) / 2, high], round = (value) => signed(String(Number(value.toFixed(2))));
    for (const value of xTicks ?? parts(x))
      draw("text", { x: px(value), y: H - bottom + 14, "text-anchor": value === x[1] ? "end" : "middle" }, round(value));
    for (const value of parts(y)) draw("text", { x: left - 5, y: py(value) + 4, "text-anchor": "end" }, round(value));
    draw("text", { x: (left + W) / 2, y: H - 6, "text-anchor": "middle" }, xLabel);
    draw("text", { x: 11, y: (H - bottom) / 2, "text-anchor": "middle", transform: `rotate(-90 11 ${(H - bottom) / 2})` }, yLabel);
    for (const { points, colour, dash = "" } of lines) {
      const d = points.map(([a, b], i) => `${i ? "L" : "M"}${px(a).toFixed(1)} ${py(b).toFixed(1)}`).join("");
      draw("path", { d, fill: "none", stroke: colour, "stroke-width": 2, "stroke-dasharray": dash });
    }
    for (const { x: a, y: b, colour, text } of marks)
      draw("text", { x: px(a), y: py(b) + 5, fill: colour, "text-anchor": "middle", "font-weight": "bold" }, text);
  }

  function plot(parent, label) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", label);
    parent.append(svg);
    return svg;
  }

  const judgedBy = (probabilities, heart) =>
    SegconfScanner.judged(probabilities, probabilities.length / heart.labels.length, heart.labels);
  const scanned = (heart, name, changed = {}) => {
    const scanner = live.scanners[name];
    return SegconfScanner.scan(heart, scanner, { ...scanner.scanner, ...changed });
  };
  const keep = (values) => { root.dataset.values = JSON.stringify(values); };

  // Every heart on every scanner, judged.
  async function allCases(names, tell) {
    const cases = [], n = names.length * live.hearts.length;
    for (const name of names)
      for (const heart of live.hearts) {
        const { probabilities } = await live.run({ image: scanned(heart, name) });
        const judged = judgedBy(probabilities, heart);
        const found = Array.from(judged.classes.keys()).filter((i) => judged.classes[i]);
        const entropy = found.reduce((sum, i) => sum + judged.entropy[i], 0) / found.length;
        cases.push({
          scanner: name, dice: judged.dice, softDice: judged.softDice, size: found.length,
          entropy: found.length ? entropy : 1,
        });
        if (tell) tell(`Segmenting: ${cases.length} of ${n}.`);
        await new Promise((done) => setTimeout(done));
      }
    return cases;
  }

  // -- chapter 2: a threshold and a budget ------------------------------------------------------------------------
  async function review(tell) {
    const cases = await allCases(Object.keys(live.scanners), tell), risk = cases.map((c) => 1 - c.dice);
    const uncertainties = {
      "entropy, foreground": cases.map((c) => c.entropy),
      "1 − soft Dice confidence": cases.map((c) => 1 - c.softDice),
      "small prediction (negative number of pixels)": cases.map((c) => -c.size),
    };
    const controls = add(stage, "div", { className: "live-knobs" });
    const which = choice(controls, "uncertainty", Object.keys(uncertainties).map((n) => [n, n]), update);
    const budget = sliderIn(controls, "budget", ["review budget (cases of 36 that a person checks)", 0, 35, 1], 3, update);
    const limit = sliderIn(controls, "failure", ["a failure is a Dice below", 0.5, 0.95, 0.05], 0.7, update);
    const svg = plot(stage, "Mean risk of the cases that are left, against their fraction"), table = add(stage, "table", { className: "live-numbers" });

    function update() {
      const values = uncertainties[which.value], order = M.trusted(values), n = cases.length;
      const kept = n - Number(budget.value), risks = M.selectiveRisk(risk, values), best = M.selectiveRisk(risk, risk);
      say(budget, limit);
      const failed = (i) => cases[i].dice < Number(limit.value), failures = order.filter(failed).length;
      const left = order.slice(0, kept).filter(failed).length;
      const curve = (found) => found.map((r, k) => [(k + 1) / n, r]);
      const x = kept / n, y = risks[kept - 1];
      chart(svg, {
        x: [0, 1], y: [0, Math.max(0.1, ...risks)], xLabel: "coverage (fraction left to the machine)", yLabel: "mean risk",
        lines: [{ points: curve(risks), colour: INK.blue }, { points: curve(best), colour: "gray", dash: "4 3" }],
        marks: [{ x, y, colour: INK.orange, text: "●" }],
      });
      const shown = {
        threshold: values[order[kept - 1]], coverage: x, risk: y, left, failures, excess: M.excessAurc(risk, values),
      };
      rows(table, [
        ["largest uncertainty that is not reviewed (the threshold)", shown.threshold.toFixed(3)],
        ["coverage", percent(x)],
        ["mean risk of the cases that are left (lower is better)", y.toFixed(3)],
        ["failures that nobody reviews", `${left} of ${failures}`],
        ["eAURC over all budgets (lower is better)", shown.excess.toFixed(3)],
      ]);
      keep({ ...shown, risks: risk, uncertainty: values });
    }
    update();
  }

  // -- chapter 4: the predictor while one knob is turned ----------------------------------------------------------
  async function knobs() {
    const LINES = { "true Dice": INK.blue, "soft Dice confidence": INK.orange, "predicted Dice": INK.pink };
    const DASHES = { "true Dice": "", "soft Dice confidence": "6 3", "predicted Dice": "2 3" };
    const N = 13, controls = add(stage, "div", { className: "live-knobs" });
    const heart = hearts(controls, () => sweep()), home = live.scanners.A.scanner;
    const knob = choice(controls, "knob", Object.entries(KNOBS).map(([k, [label]]) => [label, k]), () => { turn(); sweep(); });
    knob.value = "fat_signal";
    const value = sliderIn(controls, "value", ["its value", 0, 1, 0.01], 0, () => point());
    const [image, segmentation] = pictures(stage, ["image", "segmentation; white: true borders"]);
    const svg = plot(stage, "True Dice, soft Dice confidence and predicted Dice against the value of the knob");
    const table = add(stage, "table", { className: "live-numbers" });
    let curves = {}, now = null;

    function turn() {
      const [, min, max, step] = KNOBS[knob.value];
      Object.assign(value, { min, max, step });
      value.value = home[knob.value];
    }

    async function at(setting) {
      const chosen = live.hearts[Number(heart.value)], picture = scanned(chosen, "A", { [knob.value]: setting });
      const { probabilities, dice } = await live.run({ image: picture }), judged = judgedBy(probabilities, chosen);
      return { picture, judged, labels: chosen.labels, "true Dice": judged.dice, "soft Dice confidence": judged.softDice, "predicted Dice": dice[0] };
    }

    const sweep = latest(async () => {
      const [label, low, high] = KNOBS[knob.value];
      curves = { label, low, high, points: [] };
      for (let k = 0; k < N; k++) {
        const setting = low + (k / (N - 1)) * (high - low);
        curves.points.push([setting, await at(setting)]);
        await new Promise((done) => setTimeout(done));
      }
      await point();
    });

    const point = latest(async () => {
      const setting = Number(value.value);
      say(value);
      now = await at(setting);
      paintImage(image, live.size, now.picture);
      paintClasses(segmentation, live.size, now.picture, now.judged.classes, now.labels);
      rows(table, Object.keys(LINES).map((name) => [`${name} (higher is better)`, now[name].toFixed(2)]));
      const lines = Object.keys(LINES).map((name) => ({
        points: curves.points.map(([a, found]) => [a, found[name]]), colour: LINES[name], dash: DASHES[name],
      }));
      const marks = Object.keys(LINES).map((name) => ({ x: setting, y: now[name], colour: LINES[name], text: "●" }));
      chart(svg, { x: [curves.low, curves.high], y: [0, 1], xLabel: curves.label, yLabel: "Dice", lines, marks });
      keep({ knob: knob.value, setting, dice: now["true Dice"], softDice: now["soft Dice confidence"], predicted: now["predicted Dice"] });
    });
    add(stage, "p", {}, "Solid, blue: true Dice. Dashed, orange: soft Dice confidence. Dotted, pink: predicted Dice.");
    turn();
    await sweep();
  }

  // -- chapter 5: what it costs to flip a pixel -------------------------------------------------------------------
  async function flips() {
    const controls = add(stage, "div", { className: "live-knobs" });
    const heart = hearts(controls, () => update()), scanner = scanners(controls, () => update());
    const power = sliderIn(controls, "budget", ["budget γ: ten to the power of", -8, -2, 0.1], -4, () => draw());
    const row = sliderIn(controls, "row", ["row of the pixel", 0, live.size - 1, 1], 40, () => draw());
    const column = sliderIn(controls, "column", ["column of the pixel", 0, live.size - 1, 1], 48, () => draw());
    const [before, zone] = pictures(stage, ["segmentation", "red: costs at most γ; yellow: the pixel"]);
    const table = add(stage, "table", { className: "live-numbers" });
    let found;
    zone.addEventListener("click", (event) => {
      const box = zone.getBoundingClientRect(), part = (at, from, length) => Math.floor(((at - from) / length) * live.size);
      column.value = part(event.clientX, box.left, box.width);
      row.value = part(event.clientY, box.top, box.height);
      draw();
    });

    const update = latest(async () => {
      const chosen = live.hearts[Number(heart.value)], image = scanned(chosen, scanner.value);
      const { probabilities, features } = await live.run({ image });
      const costs = M.flipCost(features, window.segconfNumbers.lastLayer);
      found = { image, costs, ...judgedBy(probabilities, chosen) };
      draw();
    });

    function draw() {
      const budget = 10 ** Number(power.value), at = Number(row.value) * live.size + Number(column.value);
      say(power, row, column);
      const { image, costs, classes } = found, inside = costs.reduce((sum, cost) => sum + (cost <= budget), 0) / costs.length;
      paintClasses(before, live.size, image, classes);
      const cross = (i) => i !== at && (Math.floor(i / live.size) === Number(row.value) || i % live.size === Number(column.value)) && Math.abs((i % live.size) - Number(column.value)) + Math.abs(Math.floor(i / live.size) - Number(row.value)) < 5;
      const shade = (i) => Math.max(0, Math.min(255, (255 * (image[i] + 1.5)) / 4.5));
      paint(zone, live.size, (i) => (cross(i) ? [255, 220, 0] : costs[i] <= budget ? [213, 60, 0] : Array(3).fill(shade(i))));
      rows(table, [
        ["budget γ, in nats per training pixel", budget.toExponential(1)],
        ["pixels that cost at most γ", `${(100 * inside).toFixed(1)} %`],
        ["flip cost of the chosen pixel", costs[at].toExponential(1)],
        ["is its label fragile at this budget?", costs[at] <= budget ? "yes" : "no"],
      ]);
      keep({ budget, inside, cost: costs[at] });
    }
    await update();
  }

  // -- chapter 8: one step of the fast gradient sign method -------------------------------------------------------
  async function attack() {
    const controls = add(stage, "div", { className: "live-knobs" });
    const heart = hearts(controls, () => update()), scanner = scanners(controls, () => update());
    const size = sliderIn(controls, "epsilon", ["ε, in standard deviations of the image", 0, 0.5, 0.01], 0.1, () => update());
    const canvases = pictures(stage, ["image", "segmentation", "image after the attack", "segmentation after the attack"]);
    const table = add(stage, "table", { className: "live-numbers" });
    const at = async (image, chosen, labels) => {
      const { probabilities, gradient } = await live.run({ image, labels });
      return { image, gradient, ...judgedBy(probabilities, chosen) };
    };

    const update = latest(async () => {
      const chosen = live.hearts[Number(heart.value)], image = scanned(chosen, scanner.value), eps = Number(size.value);
      say(size);
      const labels = M.oneHot(chosen.labels, 4), clean = await at(image, chosen, labels);
      const moved = await at(M.stepped(image, clean.gradient, eps), chosen, labels); // the image's standard deviation is 1
      const noise = await at(M.stepped(image, chosen.noise, eps), chosen, labels);
      [clean, moved].forEach((found, k) => {
        paintImage(canvases[2 * k], live.size, found.image);
        paintClasses(canvases[2 * k + 1], live.size, found.image, found.classes, chosen.labels);
      });
      const named = { "no change": clean, "random noise of the same size": noise, "FGSM": moved };
      rows(table, [["", "true Dice", "soft Dice confidence"], ...Object.entries(named).map(([name, found]) =>
        [name, found.dice.toFixed(2), found.softDice.toFixed(2)])]);
      keep(Object.fromEntries(Object.entries(named).map(([name, { dice, softDice }]) => [name, { dice, softDice }])));
    });
    await update();
  }

  // -- chapter 9: a bound that moves ------------------------------------------------------------------------------
  async function bound() {
    const { excess } = window.segconfNumbers, controls = add(stage, "div", { className: "live-knobs" });
    const scanner = scanners(controls, () => update());
    const level = sliderIn(controls, "level", ["level of the promise", 0.5, 0.98, 0.01], 0.9, () => draw());
    const number = sliderIn(controls, "cases", ["calibration cases", 1, excess.length, 1], excess.length, () => draw());
    const svg = plot(stage, "Estimate, bound and true Dice of six hearts"), table = add(stage, "table", { className: "live-numbers" });
    add(stage, "p", {}, "●: true Dice; ○: soft Dice confidence; ▬: bound; ✕: true Dice below the bound.");
    let cases;

    const update = latest(async () => {
      cases = await allCases([scanner.value]);
      draw();
    });

    function draw() {
      say(level, number);
      const margin = M.conformalQuantile(excess.slice(0, Number(number.value)), Number(level.value));
      const bounds = cases.map((c) => Math.max(0, Math.min(1, c.softDice - margin)));
      const kept = cases.map((c, k) => c.dice >= bounds[k]), marks = [];
      cases.forEach((c, k) => {
        marks.push({ x: k + 1, y: c.softDice, colour: INK.orange, text: "○" });
        if (!Number.isNaN(margin)) marks.push({ x: k + 1, y: bounds[k], colour: INK.pink, text: "▬" });
        marks.push({ x: k + 1, y: c.dice, colour: INK.blue, text: Number.isNaN(margin) || kept[k] ? "●" : "✕" });
      });
      const lowest = Math.max(0, Math.floor(10 * Math.min(...marks.map((mark) => mark.y)) - 0.5) / 10);
      chart(svg, { x: [0.5, 6.5], y: [lowest, 1], xLabel: "heart", yLabel: "Dice", xTicks: [1, 2, 3, 4, 5, 6], marks });
      const fewest = M.fewestCases(Number(level.value)), none = `none: this level needs at least ${fewest} cases`;
      rows(table, [
        ["margin (confidence minus bound)", Number.isNaN(margin) ? none : margin.toFixed(3)],
        ["hearts for which the bound holds", Number.isNaN(margin) ? "–" : `${kept.filter(Boolean).length} of ${kept.length}`],
      ]);
      keep({ margin: Number.isNaN(margin) ? null : margin, kept: kept.filter(Boolean).length, cases });
    }
    await update();
  }

  const FIGURES = {
    review: [review, "network.js"], knobs: [knobs, "network.js"], flips: [flips, "network.js", ["numbers.js"]],
    attack: [attack, "gradient.js"], bound: [bound, "network.js", ["numbers.js"]],
  };
  const [show, file, more] = FIGURES[root.dataset.figure];
  onStart(root, { file, more, ready: async (found, tell) => { live = found; await show(tell); } });
})();
