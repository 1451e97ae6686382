"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const byId = (id) => document.getElementById(id);
  const flags = JSON.parse(byId("flags").textContent);
  const header = ["position", "path", "reason", "label", "answer", "confidence"];
  const collator = new Intl.Collator(undefined, { numeric: true });

  // Filter: show cards and rows whose class, prediction or file contains the text, and their groups.
  const filter = byId("filter");
  function applyFilter() {
    const text = filter.value.trim().toLowerCase();
    let shown = 0;
    for (const item of all(".item")) {
      item.hidden = !item.dataset.text.toLowerCase().includes(text);
      shown += item.hidden || !item.matches(".card") ? 0 : 1;
    }
    for (const group of all(".item-group")) {
      group.hidden = !group.querySelector(".item:not([hidden])");
    }
    byId("status").textContent = text ? `${shown} cards match` : "";
  }
  filter.addEventListener("input", applyFilter);

  // Sort the cards of every gallery.
  const orders = {
    order: (a, b) => a.dataset.order - b.dataset.order,
    class: (a, b) => collator.compare(a.dataset.class, b.dataset.class),
    confident: (a, b) => b.dataset.confidence - a.dataset.confidence,
    uncertain: (a, b) => a.dataset.confidence - b.dataset.confidence,
    name: (a, b) => collator.compare(a.dataset.name, b.dataset.name),
  };
  byId("sort").addEventListener("change", (event) => {
    for (const list of all(".cards")) {
      list.append(...all(".card", list).sort(orders[event.target.value]));
    }
  });

  // Sort the table of classes by a column; a second click reverses the order.
  for (const button of all("#class-table thead button")) {
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const descending = head.getAttribute("aria-sort") === "ascending";
      for (const other of all("#class-table thead th")) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const body = document.querySelector("#class-table tbody");
      const value = (row) =>
        row.querySelector(`[data-column="${button.dataset.column}"]`).dataset.value;
      const rows = all("tr", body).sort((a, b) => collator.compare(value(a), value(b)));
      const numeric = head.matches(".number") || button.dataset.column === "3";
      if (numeric) rows.sort((a, b) => value(a) - value(b));
      body.append(...(descending ? rows.reverse() : rows));
    });
  }

  // An image may be in several sections; it is selected in all of them at once.
  const chosen = new Set();
  document.addEventListener("change", (event) => {
    const card = event.target.closest(".card");
    if (!card) return;
    const position = card.dataset.position;
    event.target.checked ? chosen.add(position) : chosen.delete(position);
    for (const same of all(`.card[data-position="${position}"]`)) {
      same.querySelector("input").checked = event.target.checked;
      same.classList.toggle("chosen", event.target.checked);
    }
    const button = byId("save-chosen");
    button.disabled = chosen.size === 0;
    button.textContent = `Selected as CSV (${chosen.size})`;
  });

  // CSV in which no cell begins like a spreadsheet formula.
  function cell(value) {
    let text = String(value);
    if (/^[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/.test(text)) text = "'" + text;
    return /[",\r\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
  }
  function save(name, rows) {
    const text = [header, ...rows].map((row) => row.map(cell).join(",") + "\r\n").join("");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(["\ufeff", text], { type: "text/csv" }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    byId("status").textContent = `${rows.length} rows saved as ${name}`;
  }
  byId("save-all").addEventListener("click", () => save("flagged.csv", flags));
  byId("save-chosen").addEventListener("click", () => {
    const reasons = new Map();
    for (const flag of flags) {
      const position = String(flag[0]);
      if (reasons.has(position)) reasons.get(position)[2] += "; " + flag[2];
      else reasons.set(position, [...flag]);
    }
    const rows = [...chosen].map((position) => reasons.get(position) ?? plain(position));
    save("selected.csv", rows.sort((a, b) => a[0] - b[0]));
  });
  function plain(position) {
    const data = document.querySelector(`.card[data-position="${position}"]`).dataset;
    return [position, data.path, "selected", data.label ?? "", data.answer, data.confidence];
  }
})();
