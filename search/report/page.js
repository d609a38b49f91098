// Draws the plots of a page, in the colours of its style, and works its switches. A plot is a <div class=plot>
// with the figure as JSON inside; a switch is a button whose data-set is an update for Plotly. Plots in view are
// drawn first, the others when the browser has time, so that a page can be read at once. live.js puts new
// figures in place of old ones through window.plots. No other library.
"use strict";
(() => {
  const root = document.documentElement;
  const touch = matchMedia("(pointer: coarse)").matches;
  const idle = window.requestIdleCallback ?? (act => setTimeout(act, 50));
  const config = {displaylogo: false, responsive: true, displayModeBar: touch ? false : "hover"};
  const waiting = new Set(document.querySelectorAll(".plot"));  // in the order of the page
  const near = new Set();  // of those, what is in view or close to it

  const colour = name => getComputedStyle(root).getPropertyValue(name).trim();

  // What follows the style: font, lines and background, for each axis that the figure has.
  function theme(layout) {
    const ink = colour("--ink"), line = colour("--line"), none = "rgba(0,0,0,0)";
    const found = {"paper_bgcolor": none, "plot_bgcolor": none, "font.color": ink};
    for (const axis of new Set(["xaxis", "yaxis", ...Object.keys(layout).filter(k => /^[xy]axis\d+$/.test(k))])) {
      for (const part of ["gridcolor", "zerolinecolor", "linecolor"]) found[`${axis}.${part}`] = line;
    }
    return found;
  }

  function put(layout, changes) {
    for (const [path, value] of Object.entries(changes)) {
      const keys = path.split("."), last = keys.pop();
      let at = layout;
      for (const key of keys) at = at[key] ??= {};
      at[last] = value;
    }
  }

  function figureOf(plot) {
    const figure = JSON.parse(plot.firstElementChild.textContent);
    put(figure.layout, theme(figure.layout));
    figure.layout.uirevision = "kept";  // what the reader zoomed into stays when new data come
    if (touch) figure.layout.dragmode = false;  // a finger on a plot scrolls the page
    return figure;
  }

  const plotOf = element => element.closest("figure").querySelector(".plot");

  // The switches as they were pressed, maybe before the plot was there.
  function asPressed(plot) {
    for (const one of plot.closest("figure")?.querySelectorAll(".switch") ?? []) {
      const pressed = one.querySelector("[aria-pressed=true]");
      if (pressed !== one.firstElementChild) Plotly.update(plot, ...JSON.parse(pressed.dataset.set));
    }
  }

  // Plotly stands in the page as text; running it takes a second.
  function run() {
    if (window.Plotly) return;
    const script = document.createElement("script");
    script.textContent = document.getElementById("plotly").textContent;
    document.head.append(script);
  }

  function draw(plot) {
    run();
    waiting.delete(plot);
    near.delete(plot);
    sight?.unobserve(plot);
    const figure = figureOf(plot);
    plot.replaceChildren();
    return Plotly.newPlot(plot, figure.data, figure.layout, config).then(() => {
      asPressed(plot);
      plot.on("plotly_click", event => {
        const trial = event.points[0].customdata;
        if (trial >= 0) document.dispatchEvent(new CustomEvent("trial", {detail: trial}));
      });
    });
  }

  // One after the other; what is far away waits until the browser is idle.
  let busy = false, asleep = false;
  function one(plot) {
    busy = true;
    draw(plot).finally(() => setTimeout(() => { busy = false; next(); }));
  }
  function next() {
    if (busy) return;
    for (const gone of [...waiting].filter(one => !one.isConnected)) waiting.delete(gone);  // replaced by live.js
    const plot = [...waiting].find(one => near.has(one));
    if (plot) { one(plot); return; }
    root.dataset.opened = "yes";
    if (!waiting.size) root.dataset.drawn = "yes";
    else if (!asleep) {
      asleep = true;
      idle(() => { asleep = false; if (!busy) near.size ? next() : [...waiting].slice(0, 1).forEach(one); });
    }
  }
  const sight = window.IntersectionObserver && new IntersectionObserver(entries => {
    for (const entry of entries) (entry.isIntersecting && waiting.has(entry.target) ? near.add(entry.target) : near.delete(entry.target));
    next();
  }, {rootMargin: "300px 0px"});
  if (sight && waiting.size) waiting.forEach(plot => sight.observe(plot));
  else next();

  window.plots = {
    // A plot that is there with another figure, which `fresh` holds as JSON.
    replace(plot, fresh) {
      const figure = figureOf(fresh);
      return Plotly.react(plot, figure.data, figure.layout, config).then(() => asPressed(plot));
    },
    // Plots that came into the page later.
    add(found) {
      for (const plot of found) { waiting.add(plot); sight?.observe(plot); }
      next();
    },
  };

  const drawn = () => [...document.querySelectorAll(".plot")].filter(plot => plot.layout);
  const recolour = () => drawn().forEach(plot => Plotly.relayout(plot, theme(plot.layout)));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
  addEventListener("beforeprint", () => { root.classList.add("printing"); [...waiting].forEach(draw); recolour(); });
  addEventListener("afterprint", () => { root.classList.remove("printing"); recolour(); });

  document.addEventListener("click", event => {
    const button = event.target.closest(".switch button");
    if (!button) return;
    for (const other of button.parentElement.children) other.setAttribute("aria-pressed", other === button);
    const plot = plotOf(button);
    if (plot.layout) Plotly.update(plot, ...JSON.parse(button.dataset.set));
  });
})();
