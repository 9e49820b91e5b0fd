"use strict";
(() => {
  const root = document.documentElement;
  const remembered = { get() { try { return localStorage.theme; } catch { return null; } },
                       set(value) { try { localStorage.theme = value; } catch { /* a file may not remember */ } } };
  if (remembered.get()) root.dataset.theme = remembered.get();

  addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme").addEventListener("click", () => {
      const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
      root.dataset.theme = dark ? "light" : "dark";
      remembered.set(root.dataset.theme);
    });
    document.querySelectorAll("table.claims").forEach(labelCells);  // on a phone a row is a card
    document.querySelectorAll("table.sortable").forEach(makeSortable);
    document.querySelectorAll("[data-filter]").forEach(makeFilter);
  });

  function labelCells(table) {
    const names = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
    for (const row of table.tBodies[0].rows)
      [...row.cells].forEach((cell, i) => { if (names[i] !== "Claim" && names[i] !== "Verdict") cell.dataset.label = names[i]; });
  }

  function makeSortable(table) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
        const rows = [...table.tBodies[0].rows];
        const numbers = rows.every((row) => key(row) === "" || isFinite(key(row)));
        const compare = numbers ? (a, b) => key(a) - key(b)
                                : (a, b) => key(a).localeCompare(key(b), "en", { numeric: true });
        rows.sort((a, b) => (up ? 1 : -1) * compare(a, b));
        table.tBodies[0].append(...rows);
      });
    });
  }

  function makeFilter(input) {
    const name = input.dataset.filter;
    const rows = [...document.getElementById(name).tBodies[0].rows];
    const count = document.querySelector(`[data-count="${name}"]`);
    const chips = [...document.querySelectorAll(`[data-chip="${name}"]`)];
    const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
    const verdicts = new Map(rows.map((row) => [row, row.querySelector(".verdict")?.textContent]));
    const apply = () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      const chosen = chips.filter((chip) => chip.getAttribute("aria-pressed") === "true").map((chip) => chip.dataset.word);
      let shown = 0;
      for (const row of rows) {
        row.hidden = !words.every((word) => texts.get(row).includes(word))
          || (chosen.length > 0 && !chosen.includes(verdicts.get(row)));
        shown += !row.hidden;
      }
      count.textContent = `${shown} of ${rows.length}`;
    };
    input.addEventListener("input", apply);
    for (const chip of chips) chip.addEventListener("click", () => {
      chip.setAttribute("aria-pressed", String(chip.getAttribute("aria-pressed") !== "true"));
      apply();
    });
    apply();
  }
})();
