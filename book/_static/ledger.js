// The page "What held up": its table of claims can be narrowed to a verdict and to words of the claims.
(() => {
  const VERDICTS = ["holds", "fails", "undecided", "not run"];

  function labelled(words, control) {
    const label = document.createElement("label");
    label.append(`${words} `, control);
    return label;
  }

  function filter(table) {
    const rows = [...table.tBodies[0].rows];
    const verdict = document.createElement("select");
    verdict.append(new Option("all", ""), ...VERDICTS.map((each) => new Option(each, each)));
    const words = Object.assign(document.createElement("input"), { type: "search" });
    const count = document.createElement("output");

    function show() {
      const wanted = words.value.toLowerCase().split(/\s+/);
      let shown = 0;
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        const fits = row.cells[0].textContent.trim().startsWith(verdict.value);
        row.hidden = !(fits && wanted.every((word) => text.includes(word)));
        shown += row.hidden ? 0 : 1;
      }
      count.textContent = `${shown} of ${rows.length} claims`;
    }

    const bar = document.createElement("div");
    bar.className = "book-filter";
    bar.append(labelled("Verdict:", verdict), labelled("Words:", words), count);
    table.before(bar);
    verdict.addEventListener("change", show);
    words.addEventListener("input", show);
    show();
  }

  document.addEventListener("DOMContentLoaded", () => {
    const heads = (table) => [...(table.tHead?.rows[0]?.cells ?? [])].map((cell) => cell.textContent.trim());
    const ledger = [...document.querySelectorAll("table")].find((table) => heads(table).join() === "verdict,groups,Holm,contrary,claim");
    if (!ledger) return;
    ledger.classList.add("ledger");
    filter(ledger);
  });
})();
