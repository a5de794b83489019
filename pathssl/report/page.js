// Sorts tables and hides arms; without it the page is whole. Marks that it reads are explained in page.html.j2.
"use strict";

const sorted = document.getElementById("sorted");

// A cell as a number or as text; null where nothing was measured.
function keyOf(cell, numeric) {
  const text = (cell.dataset.sort ?? cell.textContent).trim();
  if (!numeric) return text === "" || text === "—" ? null : text;
  const number = parseFloat(text.replace(/[\s\u202f]/g, "").replace(/−/g, "-"));
  return Number.isNaN(number) ? null : number;
}

// As people count: m0.25 before m0.5, seed2 before seed10.
function compare(a, b) {
  if (typeof a === "number") return a - b;
  const [left, right] = [a, b].map((text) => text.split(/(\d+(?:\.\d+)?)/));
  for (let i = 0; i < Math.min(left.length, right.length); i++) {
    const found = i % 2 ? left[i] - right[i] : left[i].localeCompare(right[i]);
    if (found) return found;
  }
  return left.length - right.length;
}

function sortBy(table, written, head, column, name) {
  const order = { none: "ascending", ascending: "descending", descending: "none" }[head.getAttribute("aria-sort") ?? "none"];
  table.querySelectorAll("[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
  const keyed = written.map((row) => [row, keyOf(row.cells[column], head.classList.contains("n"))]);
  if (order !== "none") {
    head.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    keyed.sort(([, a], [, b]) => (a === null || b === null ? (a === null) - (b === null) : sign * compare(a, b)));
  }
  table.tBodies[0].append(...keyed.map(([row]) => row));
  sorted.textContent = order === "none" ? "Rows in their first order." : `Sorted by ${name}, ${order}.`;
}

for (const table of document.querySelectorAll("table:not([data-fixed])")) {
  const written = [...(table.tBodies[0]?.rows ?? [])];
  const plain = table.tBodies.length === 1 && table.tHead?.rows.length === 1 && !table.querySelector("[rowspan], [colspan]");
  if (!plain || written.length < 2) continue;
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    if (head.classList.contains("plot")) return;
    const button = document.createElement("button");
    const name = head.textContent.trim();
    button.type = "button";
    button.title = "Sort by this column";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sortBy(table, written, head, column, name));
  });
}

const legend = document.getElementById("legend");

function showArms() {
  const boxes = [...legend.querySelectorAll("input")];
  const hidden = new Map(boxes.filter((box) => !box.checked).map((box) => [box.value, box.parentElement.textContent.trim()]));
  for (const element of document.querySelectorAll("[data-arm]")) {
    element.classList.toggle("gone", element.dataset.arm.split(" ").every((arm) => hidden.has(arm)));
  }
  const named = hidden.size > 5 ? "" : `: ${[...hidden.values()].join(", ")}`;
  document.getElementById("shown").textContent = hidden.size
    ? `${hidden.size} of ${boxes.length} arms ${hidden.size === 1 ? "is" : "are"} hidden${named}. The answer keeps all.` : "";
}

if (legend) {
  legend.querySelectorAll("input").forEach((box) => { box.hidden = false; });
  legend.addEventListener("change", showArms);
  for (const [name, checked] of [["Show all", true], ["Hide all", false]]) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name;
    button.addEventListener("click", () => {
      legend.querySelectorAll("input").forEach((box) => { box.checked = checked; });
      showArms();
    });
    legend.querySelector(".choices").append(button);
  }
}
