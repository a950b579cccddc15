"use strict";
// Search, filter, sorting and a quiet refresh; without this script the page is complete, worst first.
const by = (id) => document.getElementById(id);
const table = document.querySelector("table");
const heads = [...table.tHead.rows[0].cells];
const search = by("search");
const problems = by("problems");
const collator = new Intl.Collator(undefined, { numeric: true });
let rows = [];
let sorted = { column: 0, down: true };

const plain = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();

// What each kind of column is sorted by, and whether its first sorting is downwards.
const kinds = {
  order: { key: (row, cell) => -row.order, down: true },
  text: { key: (row, cell) => cell.textContent, down: false },
  number: { key: (row, cell) => parseFloat(cell.dataset.value), down: true },
  time: { key: (row, cell) => Date.parse(cell.querySelector("time")?.dateTime), down: false },
};

function read() {
  rows = [...table.tBodies[0].rows].map((element, order) => ({
    element,
    order,
    text: null,
    well: Boolean(element.cells[0].querySelector(".well")),
  }));
}

// The address holds search, filter and order, so that it can be bookmarked and shared.
function remember() {
  const state = new URLSearchParams();
  if (search.value) state.set("search", search.value);
  if (problems.checked) state.set("problems", "1");
  if (sorted.column || !sorted.down) {
    state.set("sort", (sorted.down ? "-" : "") + heads[sorted.column].dataset.name);
  }
  history.replaceState(null, "", `?${state}${location.hash}`);
}

function recall() {
  const state = new URLSearchParams(location.search);
  search.value = state.get("search") ?? "";
  problems.checked = state.has("problems");
  const sort = state.get("sort") ?? "";
  const column = heads.findIndex((head) => head.dataset.name === sort.replace("-", ""));
  if (column >= 0) sorted = { column, down: sort.startsWith("-") };
}

function sort() {
  const { column, down } = sorted;
  const key = kinds[heads[column].dataset.sort].key;
  const keyed = rows.map((row) => ({ row, key: key(row, row.element.cells[column]) }));
  const missing = (key) => key === "" || Number.isNaN(key);
  keyed.sort((a, b) => {
    const order = a.row.order - b.row.order;
    if (missing(a.key) || missing(b.key)) return missing(a.key) - missing(b.key) || order;
    const difference = typeof a.key === "string" ? collator.compare(a.key, b.key) : a.key - b.key;
    return (down ? -difference : difference) || order;
  });
  const all = document.createDocumentFragment();
  for (const { row } of keyed) all.append(row.element);
  table.tBodies[0].append(all);
  heads.forEach((head, i) => {
    if (i === column) head.setAttribute("aria-sort", down ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  });
}

function filter() {
  const words = plain(search.value).split(/\s+/).filter(Boolean);
  let found = 0;
  for (const row of rows) {
    row.text ??= plain([...row.element.cells].map((cell) => cell.textContent).join(" "));
    const hit = words.every((word) => row.text.includes(word)) && !(problems.checked && row.well);
    if (row.element.hidden === hit) row.element.hidden = !hit;
    found += hit;
  }
  table.hidden = !found;
  by("unmatched").hidden = found || !rows.length;
  const count = (n) => n.toLocaleString("en");
  say(words.length || problems.checked ? `${count(found)} of ${count(rows.length)} repos` : "");
}

function say(text) {
  if (by("matches").textContent !== text) by("matches").textContent = text;
}

function refresh() {
  const request = new XMLHttpRequest();
  request.open("GET", location.pathname);
  request.responseType = "document"; // parsed without running scripts or fetching anything
  request.timeout = 30000;
  const lost = () => {
    by("lost").hidden = false;
  };
  request.onerror = request.ontimeout = lost;
  request.onload = () => {
    const fresh = request.response;
    if (request.status !== 200 || !fresh?.getElementById("verdict")) return lost();
    const now = fresh.querySelector("table");
    // Another number of columns, or another release of the exporter.
    const look = (page) => page.querySelector("style").textContent + page.querySelectorAll("thead th").length;
    if (look(fresh) !== look(document)) return location.reload();
    take(fresh, now);
  };
  request.send();
}

// On a phone an account takes a line, so that the repos are in sight.
const fold = (page) => {
  if (!matchMedia("(max-width: 60rem)").matches) return;
  for (const one of page.querySelectorAll("details[open]")) one.open = false;
};

// An account whose state changed is folded or unfolded as on a new page.
const keyOf = (details) => `${details.className} ${details.dataset.key}`;

function take(fresh, now) {
  const focused = document.activeElement?.closest("details")?.dataset.key;
  const unfolded = new Map(
    [...document.querySelectorAll("details")].map((one) => [keyOf(one), one.open]),
  );
  const known = new Map();
  fold(fresh);
  for (const one of fresh.querySelectorAll("details")) {
    known.set(one.dataset.key, one);
    one.open = unfolded.get(keyOf(one)) ?? one.open;
  }
  const verdict = document.title;
  document.title = fresh.title;
  document.querySelector("link[rel=icon]").href = fresh.querySelector("link[rel=icon]").href;
  for (const id of ["verdict", "accounts"]) by(id).replaceWith(fresh.getElementById(id));
  table.tBodies[0].replaceWith(now.tBodies[0]);
  by("nothing").replaceWith(fresh.getElementById("nothing"));
  if (focused !== undefined) known.get(focused)?.querySelector("summary").focus();
  by("lost").hidden = true;
  local();
  read();
  if (sorted.column || !sorted.down) sort();
  filter();
  if (verdict !== document.title) say(by("verdict-words").textContent);
}

heads.forEach((head, column) => {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...head.childNodes);
  button.addEventListener("click", () => {
    const again = sorted.column === column;
    sorted = { column, down: again ? !sorted.down : kinds[head.dataset.sort].down };
    sort();
    remember();
  });
  head.append(button);
});
let pause;
search.addEventListener("input", () => {
  clearTimeout(pause);
  pause = setTimeout(() => {
    filter();
    remember();
  }, 100);
});
problems.addEventListener("change", () => {
  filter();
  remember();
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input:not([type=checkbox])")) return;
  event.preventDefault();
  search.focus();
  search.select();
});

const localTime = (time, style) =>
  new Date(time.dateTime).toLocaleString(undefined, { ...style, timeZoneName: "short" });

function local() {
  const made = by("made");
  const here = localTime(made, { hour: "2-digit", minute: "2-digit" });
  if (!/^UTC|UTC$/.test(here)) made.textContent += ` (${here})`;
}

document.addEventListener("mouseover", ({ target }) => {
  const utc = (time) => time.dateTime.replace("T", " ").replace(/:\d\dZ/, " UTC");
  if (target.dateTime) target.title ||= `${utc(target)}, ${localTime(target)}`;
});
const due = () => by("live").checked && !document.hidden && refresh();
setInterval(due, 60000);
document.addEventListener("visibilitychange", due);
by("tools").hidden = false;
fold(document);
local();
read();
recall();
if (sorted.column || !sorted.down) sort();
filter();
