// Predict, then look: each prompt gets a field for a guess, and its answer is folded until the reader writes one or
// opens it without. Guesses stay in this browser. Without this script, every answer is open.
(() => {
  const PLACE = "segconf guess ";

  // A browser may refuse to keep anything; then a guess lasts as long as the page.
  function kept(key) {
    try {
      return localStorage.getItem(PLACE + key);
    } catch {
      return null;
    }
  }

  function keep(key, guess) {
    try {
      if (guess === null) localStorage.removeItem(PLACE + key);
      else localStorage.setItem(PLACE + key, guess);
    } catch {
      // see above
    }
  }

  function made(tag, properties, ...parts) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...parts);
    return element;
  }

  function prepare(box) {
    const key = box.dataset.guess;
    const answer = document.getElementById(box.dataset.result);
    const field = made("input", { type: "text", maxLength: 300, autocomplete: "off" });
    field.setAttribute("aria-describedby", box.querySelector("p").id);
    const note = made("p", { className: "book-guess-note" });
    note.setAttribute("role", "status");
    const remove = made("button", { type: "button" }, "Remove my guess");
    const words = made("span", {});
    const said = made("p", { className: "book-guess-said", tabIndex: -1 }, "You wrote: ", words, " ", remove);
    const form = made(
      "form",
      { className: "book-guess" },
      made("label", {}, "Your guess: ", field),
      made("button", { type: "submit" }, answer ? "Show the result" : "Keep my guess"),
      note,
    );
    const folded = "The result below is folded until you answer. ";

    function show(guess) {
      words.textContent = guess ?? "";
      said.hidden = !guess;
      form.hidden = Boolean(guess);
      note.textContent = `${answer && guess === null ? folded : ""}Your guess is kept in this browser only.`;
      if (!answer) return;
      answer.open = guess !== null;
      answer.querySelector(".when-closed").textContent = `Show the result${guess ? "" : " without a guess"}`;
    }

    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const guess = field.value.trim();
      if (!guess) {
        note.textContent = `Please write a guess first${answer ? ", or open the result below without one" : ""}.`;
        field.focus();
        return;
      }
      keep(key, guess);
      show(guess);
      said.focus(); // a screen reader goes on from here, and the page moves to the result
    });
    remove.addEventListener("click", () => {
      keep(key, null);
      field.value = "";
      show(null);
      field.focus();
    });
    box.append(form);
    if (answer) {
      answer.querySelector("summary").after(said);
      answer.querySelector("summary").addEventListener("click", () => {
        if (answer.open || words.textContent) return;
        keep(key, "");
        note.textContent = "";
      });
      answer.addEventListener("toggle", () => {
        if (answer.open) answer.querySelectorAll(".js-plotly-plot").forEach((plot) => window.Plotly?.Plots.resize(plot));
      });
    } else {
      box.append(said);
    }
    show(kept(key));
  }

  // A link may lead to a place inside an answer, from this page or another.
  function unfold(hash) {
    const target = document.getElementById(decodeURIComponent(hash.slice(1)));
    const answer = target?.closest("details.book-result");
    if (!answer || answer.open) return;
    answer.open = true;
    target.scrollIntoView();
  }

  document.addEventListener("DOMContentLoaded", () => {
    const boxes = document.querySelectorAll(".book-predict");
    if (boxes.length === 0) return;
    boxes.forEach(prepare);
    window.addEventListener("hashchange", () => unfold(location.hash));
    document.addEventListener("click", (event) => {
      const link = event.target.closest?.('a[href^="#"]');
      if (link) unfold(link.hash);
    });
    let closed = [];
    window.addEventListener("beforeprint", () => {
      closed = [...document.querySelectorAll("details.book-result:not([open])")];
      closed.forEach((answer) => (answer.open = true));
    });
    window.addEventListener("afterprint", () => closed.forEach((answer) => (answer.open = false)));
    unfold(location.hash);
  });
})();
