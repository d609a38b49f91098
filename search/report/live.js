// Keeps a page that search/report/serve.py serves as new as the database. Every ten seconds it asks for the page
// and puts in place what has changed: parts with a data-digest, each by itself, so that the reader's place, zoom,
// filters and opened rows stay; another study is loaded as a whole. The line #live says how the search stands, or
// why nothing new comes.
"use strict";
(() => {
  const EVERY = 10_000;
  const root = document.documentElement, bar = document.getElementById("live");
  let asked = false, good = [bar.textContent, bar.className.replace("live ", "")];

  const parts = page => [...page.querySelectorAll("[data-digest]")];

  function say(text, kind) {
    bar.className = `live ${kind}`;
    bar.textContent = text;
  }

  // What a reader has done to a part, but for its plots and its table of trials: by place, since names may come twice.
  const SETTINGS = [
    [".switch", one => [...one.children].findIndex(button => button.getAttribute("aria-pressed") === "true"),
      (one, place) => [...one.children].forEach((button, i) => button.setAttribute("aria-pressed", i === place))],
    ["details", one => one.open, (one, open) => { one.open = open; }],
    [".scrolled, .wide", one => one.scrollLeft, (one, left) => { one.scrollLeft = left; }],
  ];

  function replace(old, fresh) {
    const kept = SETTINGS.map(([kind, read]) => [...old.querySelectorAll(kind)].map(read));
    const trials = old.querySelector("#trials-table") && window.trials ? window.trials.asItIs() : null;
    const before = [...old.querySelectorAll(".plot")], after = [...fresh.querySelectorAll(".plot")];
    const same = before.length === after.length;
    const again = [], later = [];
    after.forEach((plot, i) => {
      if (same && before[i].layout) {
        plot.replaceWith(before[i]);
        again.push([before[i], plot]);
      } else later.push(plot);
    });
    old.replaceWith(fresh);
    SETTINGS.forEach(([kind, , write], i) => {
      const found = [...fresh.querySelectorAll(kind)];
      if (found.length === kept[i].length) found.forEach((one, j) => write(one, kept[i][j]));
    });
    again.forEach(([plot, figure]) => window.plots.replace(plot, figure));
    window.plots?.add(later);
    if (trials && fresh.querySelector("#trials-table")) window.trials = window.setUpTrials(trials);
  }

  // A part that was not there before. Its own scripts do not run, as the page was parsed apart.
  function insert(previous, fresh) {
    previous.after(fresh);
    window.plots.add([...fresh.querySelectorAll(".plot")]);
    if (fresh.querySelector("#trials-table")) window.trials = window.setUpTrials();
  }

  // What is in the middle of the screen, which stays where it is: a row of a trial, else a heading, figure or
  // table row by its place in its part, else the part. Returns a function that finds it again.
  function looked() {
    const isAbove = element => element.getBoundingClientRect().top <= innerHeight / 2;
    const part = parts(document).filter(isAbove).at(-1);
    if (!part) return () => null;
    const kinds = "h2, h3, figure, tr:not(.opened)";
    const found = [...part.querySelectorAll(kinds)], place = found.findLastIndex(isAbove), seen = found[place];
    const again = () => document.getElementById(part.id);
    if (!seen) return again;
    if (seen.dataset.trial) return () => document.querySelector(`tr[data-trial="${seen.dataset.trial}"]`) ?? again();
    return () => again()?.querySelectorAll(kinds)[place] ?? again();
  }
  const isTyping = part => part.contains(document.activeElement) && document.activeElement.matches("input, select");

  function update(page) {
    const here = looked(), top = here()?.getBoundingClientRect().top;
    const fresh = parts(page), names = new Set(fresh.map(part => part.id));
    let previous = null;
    for (const part of fresh) {
      const old = document.getElementById(part.id);
      if (!old && previous) insert(previous, document.adoptNode(part));
      else if (old && old.dataset.digest !== part.dataset.digest && !isTyping(old)) replace(old, document.adoptNode(part));
      previous = document.getElementById(part.id);
    }
    for (const part of parts(document)) if (!names.has(part.id)) part.remove();
    const now = here();
    if (now && top !== undefined) scrollBy({top: now.getBoundingClientRect().top - top, behavior: "instant"});
    const line = page.getElementById("live");
    good = [line.textContent, line.className.replace("live ", "")];
    say(...good);
    root.dataset.stamp = page.documentElement.dataset.stamp;
  }

  async function ask() {
    if (asked || document.hidden) return;
    asked = true;
    try {
      const answer = await fetch(`/?since=${root.dataset.stamp}`, {cache: "no-store"});
      const text = await answer.text();
      if (answer.status === 200) {
        const page = new DOMParser().parseFromString(text, "text/html");
        if (root.dataset.stamp && window.plots && page.title === document.title) update(page);
        else location.reload();  // what is there is a line alone, or another study's
      } else if (answer.status === 204) say(...good);
      else say(text, "away");
    } catch {
      say("The server of this page does not answer. It is asked again every ten seconds.", "away");
    } finally {
      asked = false;
    }
  }
  setInterval(ask, EVERY);
  document.addEventListener("visibilitychange", ask);
  window.live = ask;
  ask();
})();
