// A figure takes its second layout where its box is narrow, and its first one elsewhere. Its slider is one of the
// browser's own, so that it obeys the keyboard. What scrolls in its box can be reached by the keyboard, too. Each
// figure can be saved as an image.
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

  function named(drawing, k) {
    const figure = drawing.closest("figure.cell_output");
    const number = figure?.querySelector(".book-number")?.textContent.replace(/\.$/, "");
    const beside = figure ? [...figure.querySelectorAll(".book-figure, svg[role=img]:not(.book-figure svg)")] : [];
    const part = beside.length > 1 ? ` part ${beside.indexOf(drawing) + 1}` : "";
    const title = `${number ?? `figure ${k + 1}`}${part}`;
    const page = location.pathname.split("/").pop().replace(/\.html$/, "");
    return { title, file: `${page} ${title}`.toLowerCase().replace(/[^a-z0-9]+/g, "-") };
  }

  // Plotly draws its image by itself. A diagram is an SVG in the page, which a browser offers no way to save.
  function savable(drawing, k) {
    const { title, file } = named(drawing, k);
    const plot = drawing.querySelector(".js-plotly-plot");
    const control = document.createElement(plot ? "button" : "a");
    control.className = "book-save";
    control.textContent = "Save as image";
    control.setAttribute("aria-label", `Save as image: ${title}`);
    if (plot) {
      control.type = "button";
      control.addEventListener("click", () => {
        const size = { width: plot.offsetWidth, height: plot.offsetHeight, scale: 2 };
        // Plotly draws the image in an element of the page, and the theme, which watches the page, takes the data
        // of this element for a text and searches it.
        const data = Object.assign(structuredClone(plot.data), { search: () => -1 });
        const figure = { data, layout: structuredClone(plot.layout) };
        window.Plotly.downloadImage(figure, { format: "png", filename: file, ...size });
      });
    } else {
      const copy = drawing.cloneNode(true);
      copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
      const text = new XMLSerializer().serializeToString(copy);
      control.href = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
      control.download = `${file}.svg`;
    }
    drawing.after(control);
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
    document.querySelectorAll(".book-figure, .cell_output .text_html > svg[role=img]").forEach(savable);
    reachable();
    window.addEventListener("resize", reachable);
  });
})();
