// A figure takes its second layout where its box is narrow, and its first one elsewhere.
(() => {
  const NARROW_PX = 560;
  const CONFIG = { responsive: true, displayModeBar: false };

  function second(first, stored) {
    const { layout, trace, captions } = JSON.parse(stored.textContent);
    const data = first.data.map((each) => ({ ...each, ...trace }));
    const caption = (step, k) => [step.args[0], { "title.text": captions[k] }, ...step.args.slice(2)];
    const sliders = first.layout.sliders?.map((slider) => ({
      ...slider,
      steps: slider.steps.map((step, k) => ({ ...step, args: caption(step, k) })),
    }));
    return { data, layout: { ...first.layout, ...layout, sliders }, height: `${layout.height}px`, least: "0" };
  }

  function fit(box) {
    const plot = box.querySelector(".js-plotly-plot");
    const stored = box.querySelector(".book-narrow");
    if (!plot?.layout || !stored || !box.clientWidth) return;
    const page = plot.parentElement;
    const frame = stored.parentElement;
    box.first ??= {
      data: plot.data,
      layout: structuredClone(plot.layout),
      height: page.style.height,
      least: frame.style.minWidth,
    };
    const narrow = box.clientWidth < NARROW_PX;
    if (narrow === Boolean(box.narrow)) return;
    box.narrow = narrow;
    const { data, layout, height, least } = narrow ? second(box.first, stored) : box.first;
    page.style.height = plot.style.height = height;
    frame.style.minWidth = least;
    window.Plotly.newPlot(plot, data, { ...structuredClone(layout), width: undefined }, CONFIG);
  }

  window.addEventListener("load", () => {
    const watcher = new ResizeObserver((entries) => entries.forEach((entry) => fit(entry.target)));
    document.querySelectorAll(".book-figure").forEach((box) => watcher.observe(box));
  });
})();
