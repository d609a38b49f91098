// Draws the plots of a page, in the colours of its style, and works its switches. A plot is a <div class=plot>
// with the figure as JSON inside; a switch is a button whose data-set is an update for Plotly. No other library.
"use strict";
(() => {
  const root = document.documentElement;
  const plots = [...document.querySelectorAll(".plot")];
  const touch = matchMedia("(pointer: coarse)").matches;

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

  function draw(plot) {
    const figure = JSON.parse(plot.firstElementChild.textContent);
    put(figure.layout, theme(figure.layout));
    if (touch) figure.layout.dragmode = false;  // a finger on a plot scrolls the page
    plot.replaceChildren();
    return Plotly.newPlot(plot, figure.data, figure.layout, {displaylogo: false, responsive: true, displayModeBar: touch ? false : "hover"}).then(() => {
      plot.on("plotly_click", event => {
        const trial = event.points[0].customdata;
        if (trial >= 0) document.dispatchEvent(new CustomEvent("trial", {detail: trial}));
      });
    });
  }

  // One after the other, so that the page can be read while they are drawn.
  function next() {
    const plot = waiting.shift();
    if (!plot) { root.dataset.drawn = "yes"; return; }
    draw(plot).finally(() => setTimeout(next));
  }
  const waiting = plots.slice();
  next();

  const recolour = () => plots.forEach(p => p.layout && Plotly.relayout(p, theme(p.layout)));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
  addEventListener("beforeprint", () => { root.classList.add("printing"); recolour(); });
  addEventListener("afterprint", () => { root.classList.remove("printing"); recolour(); });

  document.addEventListener("click", event => {
    const button = event.target.closest(".switch button");
    if (!button) return;
    for (const other of button.parentElement.children) other.setAttribute("aria-pressed", other === button);
    const plot = button.closest("figure").querySelector(".plot");
    if (plot.layout) Plotly.update(plot, ...JSON.parse(button.dataset.set));
  });
})();
