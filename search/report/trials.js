// The table of all trials: sorts, filters, and opens a row. Reads the JSON in #trials-data, which search/report/trials.py
// writes: columns of equal length, `network` as indices into `words`. Whatever it shows is put in as text. Where
// live.js brings the first trials, or newer ones, the table is set up anew as the reader had it: window.trials.
"use strict";
function setUpTrials(before = {}) {
  const data = JSON.parse(document.getElementById("trials-data").textContent);
  const table = document.getElementById("trials-table"), body = table.tBodies[0];
  const query = document.getElementById("trials-query"), state = document.getElementById("trials-state");
  const said = document.getElementById("trials-said"), more = document.getElementById("trials-more");
  const columns = data.columns, PAGE = 25;
  let sorted = before.sorted ?? {column: columns.score ? "score" : "accuracy", down: true}, found = [], shown = 0;

  const make = (tag, text, kind) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (kind) made.className = kind;
    return made;
  };
  const network = i => columns.network[i].map(word => data.words[word]).join(", ");
  const numbers = new Intl.NumberFormat("en"), count = value => value === null ? "-" : numbers.format(value);
  const percent = value => value === null ? "-" : `${(value / 100).toFixed(2)}%`;
  const cells = i => [
    [columns.number[i]], [data.states[columns.state[i]]],
    ...(columns.score ? [[percent(columns.score[i])]] : []), [percent(columns.accuracy[i])],
    [count(columns.parameters[i])], [count(columns.macs[i]), "extra"], [count(columns.epochs[i]), "extra"],
    [columns.seconds[i] === null ? "-" : `${count(columns.seconds[i])} s`, "extra"], [network(i), "extra network"],
  ];

  // Every word must be in the row; a number alone is a trial's.
  function matches(words, wanted) {
    const alone = words.length === 1 && /^\d+$/.test(words[0]) ? Number(words[0]) : null;
    return i => {
      if (wanted !== "" && columns.state[i] !== Number(wanted)) return false;
      if (alone !== null) return columns.number[i] === alone;
      if (!words.length) return true;
      const text = `${data.states[columns.state[i]]} ${network(i)} ${data.baselines[columns.number[i]] ?? ""}`;
      return words.every(word => text.toLowerCase().includes(word));
    };
  }

  function order(a, b) {
    const column = columns[sorted.column], one = column[a], other = column[b];
    if (one === null || other === null) return (one === null) - (other === null) || a - b;
    return (one < other ? -1 : one > other ? 1 : 0) * (sorted.down ? -1 : 1) || a - b;
  }

  function refresh() {
    const words = query.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    found = columns.number.map((_, i) => i).filter(matches(words, state.value)).sort(order);
    body.replaceChildren();
    shown = 0;
    grow();
    for (const head of table.tHead.rows[0].cells) {
      const mine = head.dataset.column === sorted.column;
      if (head.dataset.column) head.setAttribute("aria-sort", mine ? (sorted.down ? "descending" : "ascending") : "none");
    }
  }

  function grow() {
    for (const i of found.slice(shown, shown + PAGE)) {
      const row = make("tr", undefined, "trial");
      for (const [text, kind] of cells(i)) row.append(make("td", text, kind));
      row.tabIndex = 0;
      row.dataset.index = i;
      row.dataset.trial = columns.number[i];
      body.append(row);
    }
    shown = Math.min(found.length, shown + PAGE);
    said.textContent = `${count(shown)} of ${count(found.length)} shown`;
    more.hidden = shown === found.length;
  }

  // A curve as a small drawing: what is maximised over epochs, from its least to its greatest.
  function sketch(curve) {
    const space = "http://www.w3.org/2000/svg", svg = document.createElementNS(space, "svg");
    const low = Math.min(...curve), high = Math.max(...curve), wide = Math.max(1, curve.length - 1);
    svg.setAttribute("viewBox", "0 0 260 90");
    const line = document.createElementNS(space, "polyline");
    line.setAttribute("points", curve.map((value, i) =>
      `${(5 + 250 * i / wide).toFixed(1)},${(80 - 70 * (value - low) / (high - low || 1)).toFixed(1)}`).join(" "));
    for (const [name, value] of [["fill", "none"], ["stroke", "#3b82f6"], ["stroke-width", "2"]]) line.setAttribute(name, value);
    svg.append(line);
    return svg;
  }

  function details(i) {
    const cell = make("td"), number = columns.number[i], trial = data.reference + number;
    cell.colSpan = table.tHead.rows[0].cells.length;
    const baseline = data.baselines[number], reason = data.reasons[number], curve = data.curves[number];
    cell.append(make("p", (baseline ? `${baseline}: ` : "") + network(i)));
    const sizes = `${count(columns.parameters[i])} parameters, ${count(columns.macs[i])} multiply-accumulates`;
    const time = columns.seconds[i] === null ? "" : `, ${count(columns.epochs[i])} epochs in ${count(columns.seconds[i])} s`;
    cell.append(make("p", sizes + time, "note"));
    if (reason) cell.append(make("p", reason));
    if (curve) {
      const values = curve.map(value => `${(value / 10).toFixed(1)}%`);
      cell.append(sketch(curve), make("p", `${data.scored} by epoch, from ${values[0]} to ${values[values.length - 1]}`, "note"));
    }
    cell.append(make("pre", [
      `search show ${trial}`, `search train ${trial}`, `search export ${trial} --out trial-${number}.json`, `search replay ${trial}`,
    ].join("\n")));
    const row = make("tr", undefined, "opened");
    row.append(cell);
    return row;
  }

  function toggle(row) {
    if (row.nextSibling?.className === "opened") row.nextSibling.remove();
    else row.after(details(Number(row.dataset.index)));
  }

  table.tHead.addEventListener("click", event => {
    const column = event.target.closest("th")?.dataset.column;
    if (!column) return;
    sorted = {column, down: sorted.column === column ? !sorted.down : !["number", "state"].includes(column)};
    refresh();
  });
  body.addEventListener("click", event => {
    const row = event.target.closest("tr.trial");
    if (row) toggle(row);
  });
  body.addEventListener("keydown", event => {
    if (event.key === "Enter" && event.target.matches("tr.trial")) toggle(event.target);
  });
  query.addEventListener("input", refresh);
  state.addEventListener("input", refresh);
  more.addEventListener("click", grow);
  query.value = before.query ?? "";
  if (before.state) state.value = before.state;
  refresh();
  while (shown < Math.min(before.shown ?? 0, found.length)) grow();
  for (const row of [...body.rows]) if (before.opened?.includes(columns.number[row.dataset.index])) toggle(row);

  return {
    // The row of a trial, opened: a click on a point of a plot asks for it.
    find(number) {
      query.value = number;
      state.value = "";
      refresh();
      if (body.rows.length === 1) toggle(body.rows[0]);
      table.scrollIntoView({behavior: "smooth", block: "center"});
    },
    // What the reader has made of the table.
    asItIs: () => ({
      sorted, shown, query: query.value, state: state.value,
      opened: [...body.querySelectorAll("tr.opened")].map(row => columns.number[row.previousSibling.dataset.index]),
    }),
  };
}
if (document.getElementById("trials-table")) window.trials = setUpTrials();
document.addEventListener("trial", event => window.trials?.find(event.detail));
