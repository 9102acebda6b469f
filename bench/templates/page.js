"use strict";
const off = { spaces: new Set(), rules: new Set() };

function hides(element) {
  return ["spaces", "rules"].some((kind) =>
    (element.dataset[kind] || "").split("\t").some((name) => off[kind].has(name)));
}

for (const button of document.querySelectorAll(".arms button")) {
  button.addEventListener("click", () => {
    const shown = button.getAttribute("aria-pressed") === "true";
    const names = off[button.dataset.kind];
    shown ? names.add(button.dataset.name) : names.delete(button.dataset.name);
    button.setAttribute("aria-pressed", String(!shown));
    for (const element of document.querySelectorAll("[data-spaces]")) element.classList.toggle("off", hides(element));
  });
}

function value(cell) {
  const text = cell.textContent.trim();
  const number = Number.parseFloat(cell.dataset.value ?? text);
  return text === "" ? null : Number.isNaN(number) ? text : number;
}

function compared(x, y) {
  if (typeof x !== typeof y || typeof x === "string") return String(x).localeCompare(String(y));
  return x === y ? 0 : x < y ? -1 : 1;
}

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const order = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
    heads.forEach((each) => each.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const rows = [...table.tBodies[0].rows].sort((a, b) => {
      const [x, y] = [value(a.cells[column]), value(b.cells[column])];
      return (x === null) - (y === null) || (x === null ? 0 : sign * compared(x, y));
    });
    table.tBodies[0].append(...rows);
  }));
}

window.addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((each) => { each.open = true; }));
