// A figure takes its second layout where its box is narrow, and its first one elsewhere. Its slider is one of the
// browser's own, so that it obeys the keyboard. What scrolls in its box can be reached by the keyboard, too.
(() => {
  const NARROW_PX = 560;
  const TOUCH = window.matchMedia("(pointer: coarse)").matches;
  const CONFIG = { responsive: true, displayModeBar: false };

  function second(first, stored) {
    const { layout, trace, captions } = JSON.parse(stored.textContent);
    const font = (each) => (trace.textfont ? { textfont: { ...each.textfont, ...trace.textfont } } : {}); // its colour stays
    const data = first.data.map((each) => ({ ...each, ...trace, ...font(each) }));
    const caption = (step, k) => [step.args[0], { "title.text": captions[k] }, ...step.args.slice(2)];
    const sliders = first.layout.sliders?.map((slider) => ({
      ...slider,
      steps: slider.steps.map((step, k) => ({ ...step, args: caption(step, k) })),
    }));
    return { data, layout: { ...first.layout, ...layout, sliders }, height: `${layout.height}px`, least: "0" };
  }

  function slide(box, plot) {
    const [slider] = plot.layout.sliders ?? [];
    if (!slider) return;
    if (!box.control) {
      const label = document.createElement("label");
      label.className = "book-slider";
      label.append(slider.currentvalue?.prefix?.trim() || "Step:");
      box.control = label.appendChild(document.createElement("input"));
      Object.assign(box.control, { type: "range", min: 0, max: slider.steps.length - 1 });
      box.control.value = slider.active ?? 0;
      box.shown = label.appendChild(document.createElement("output"));
      box.control.addEventListener("input", () => slide(box, plot));
      box.append(label);
    }
    const step = plot.layout.sliders[0].steps[box.control.value];
    box.shown.textContent = step.label;
    box.control.setAttribute("aria-valuetext", step.label);
    window.Plotly[step.method](plot, ...step.args);
  }

  function fit(box) {
    const plot = box.querySelector(".js-plotly-plot");
    const stored = box.querySelector(".book-narrow");
    if (!plot?.layout || !stored || !box.clientWidth) return;
    const page = plot.parentElement;
    const frame = stored.parentElement;
    const begins = !box.first;
    if (begins) plot.layout.sliders?.forEach((slider) => (slider.visible = false));
    if (begins && TOUCH) {
      plot.layout.dragmode = false; // a finger on a figure scrolls the page
      for (const key of Object.keys(plot.layout)) {
        if (/^[xy]axis\d*$/.test(key)) plot.layout[key].fixedrange = true;
      }
    }
    box.first ??= {
      data: plot.data,
      layout: structuredClone(plot.layout),
      height: page.style.height,
      least: frame.style.minWidth,
    };
    const narrow = box.clientWidth < NARROW_PX;
    if (narrow === Boolean(box.narrow) && !(begins && (TOUCH || plot.layout.sliders?.length))) return;
    box.narrow = narrow;
    const { data, layout, height, least } = narrow ? second(box.first, stored) : box.first;
    page.style.height = plot.style.height = height;
    frame.style.minWidth = least;
    const drawn = window.Plotly.newPlot(plot, data, { ...structuredClone(layout), width: undefined }, CONFIG);
    drawn.then(() => slide(box, plot));
  }

  function reachable() {
    const scrolls = (each) => each.scrollWidth > each.clientWidth + 1;
    document.querySelectorAll(".bd-article table, .bd-article pre, .bd-article .output.text_html").forEach((each) => {
      if (scrolls(each)) each.tabIndex = 0;
    });
  }

  window.addEventListener("load", () => {
    const watcher = new ResizeObserver((entries) => entries.forEach((entry) => fit(entry.target)));
    document.querySelectorAll(".book-figure").forEach((box) => watcher.observe(box));
    reachable();
    window.addEventListener("resize", reachable);
  });
})();
