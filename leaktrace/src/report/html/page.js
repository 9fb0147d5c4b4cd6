"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  const all = (selector, from = document) => Array.from(from.querySelectorAll(selector));

  const theme = document.getElementById("theme");
  const isDark = () => root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  theme.hidden = false;
  theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; });

  // Tables: a body is what moves, so that details stay with their row.
  for (const table of all("table.sortable")) {
    const heads = all("thead th", table);
    heads.forEach((head, column) => {
      const button = head.querySelector("button");
      if (!button) return;
      button.addEventListener("click", () => {
        const isDown = head.getAttribute("aria-sort") === "descending";
        const isText = head.dataset.kind === "text";
        const first = head.hasAttribute("aria-sort") ? !isDown : !isText;
        heads.forEach((it) => it.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", first ? "descending" : "ascending");
        const value = (body) => body.rows[0].cells[column].dataset.v || "";
        const order = (a, b) => isText
          ? value(a).localeCompare(value(b))
          : Number(value(a)) - Number(value(b));
        const bodies = Array.from(table.tBodies).sort(order);
        if (first) bodies.reverse();
        bodies.forEach((body) => table.append(body));
      });
    });
  }

  const sites = document.getElementById("sites");
  if (sites) {
    sites.addEventListener("click", (event) => {
      if (String(getSelection())) return;
      const row = event.target.closest("tr.main");
      if (!row) return;
      const isOpen = row.parentElement.classList.toggle("open");
      row.querySelector(".toggle").setAttribute("aria-expanded", String(isOpen));
    });
    const words = document.getElementById("filter");
    const verdict = document.getElementById("verdict");
    const count = document.getElementById("count");
    const bodies = Array.from(sites.tBodies);
    const filter = () => {
      const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const body of bodies) {
        const text = body.textContent.toLowerCase();
        const fits = wanted.every((word) => text.includes(word))
          && (!verdict.value || body.dataset.verdict === verdict.value);
        body.hidden = !fits;
        shown += fits ? 1 : 0;
      }
      count.textContent = `${shown} of ${bodies.length}`;
    };
    words.addEventListener("input", filter);
    verdict.addEventListener("change", filter);
    filter();
    all(".controls").forEach((it) => { it.hidden = false; });
    for (const link of all("a[data-site]")) {
      link.addEventListener("click", () => {
        words.value = "";
        verdict.value = "";
        filter();
        document.getElementById(link.dataset.site)?.classList.add("open");
      });
    }
  }

  const flame = document.getElementById("flame");
  if (!flame) return;
  const total = Number(flame.dataset.total);
  const said = document.getElementById("flame-said");
  const frames = all("#flame g.frame").map((g) => {
    const rect = g.querySelector("rect");
    const title = g.querySelector("title").textContent;
    return {
      g, rect, title,
      text: g.querySelector("text"),
      name: title.replace(/ \([^(]*\)$/, ""),
      x: Number(rect.getAttribute("fg:x")),
      w: Number(rect.getAttribute("fg:w")),
      y: Number(rect.getAttribute("y")),
    };
  });
  let zoom = { x: 0, w: total, y: -1 };
  const letter = 7.25;
  const draw = () => {
    const width = flame.getBoundingClientRect().width;
    for (const it of frames) {
      const isAbove = it.y < zoom.y && it.x <= zoom.x && it.x + it.w >= zoom.x + zoom.w;
      const isInside = it.y >= zoom.y && it.x >= zoom.x && it.x + it.w <= zoom.x + zoom.w;
      it.g.classList.toggle("gone", !isAbove && !isInside);
      it.g.classList.toggle("above", isAbove);
      if (!isAbove && !isInside) continue;
      const x = isAbove ? 0 : (it.x - zoom.x) / zoom.w;
      const w = isAbove ? 1 : it.w / zoom.w;
      it.rect.setAttribute("x", `${x * 100}%`);
      it.rect.setAttribute("width", `${w * 100}%`);
      it.text.setAttribute("x", String(x * width + 4));
      const room = Math.floor((w * width - 6) / letter);
      const letters = Array.from(it.name);
      it.text.textContent = room < 3 ? ""
        : letters.length <= room ? it.name
        : letters.slice(0, room - 1).join("") + "…";
    }
  };
  const bytes = (n) => {
    const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let unit = 0;
    while (n >= 1024 && unit < units.length - 1) { n /= 1024; unit += 1; }
    return `${unit ? n.toFixed(1) : n} ${units[unit]}`;
  };
  const reset = document.getElementById("reset");
  const search = document.getElementById("search");
  const byElement = new Map(frames.map((it) => [it.g, it]));
  const of = (event) => byElement.get(event.target.closest("g.frame"));
  flame.addEventListener("click", (event) => {
    const it = of(event);
    if (!it) return;
    zoom = it;
    reset.disabled = it.w === total;
    draw();
  });
  flame.addEventListener("mouseover", (event) => {
    const it = of(event);
    if (it) said.textContent = `${it.name}: ${bytes(it.w)}, ${(it.w / total * 100).toFixed(2)}%`;
  });
  const find = () => {
    const word = search.value.trim().toLowerCase();
    const found = [];
    for (const it of frames) {
      const is = word !== "" && it.name.toLowerCase().includes(word);
      it.g.classList.toggle("found", is);
      if (is) found.push(it);
    }
    // What lies within another one that was found counts once.
    found.sort((a, b) => a.x - b.x || b.w - a.w);
    let end = -1;
    let sum = 0;
    for (const it of found) {
      if (it.x >= end) { sum += it.w; end = it.x + it.w; }
    }
    said.textContent = word ? `${bytes(sum)}, ${(sum / total * 100).toFixed(2)}%, in ${found.length} frames` : "";
  };
  reset.addEventListener("click", () => {
    zoom = { x: 0, w: total, y: -1 };
    reset.disabled = true;
    draw();
  });
  search.addEventListener("input", find);
  addEventListener("resize", draw);
  draw();
})();
