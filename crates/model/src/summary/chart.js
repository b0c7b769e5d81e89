// Lays the boxes out anew when a module is folded or unfolded: the same steps as in svg.rs.
const boxes = [...document.querySelectorAll(".box")].map(g => ({
  g, parent: +g.dataset.parent, depth: +g.dataset.depth, lines: +g.dataset.lines,
  module: g.classList.contains("module"), open: g.classList.contains("open"),
}));
const edges = [...document.querySelectorAll(".edge")];

// The box that stands for box i: the outermost folded module around it, or itself.
function shown(i) {
  let result = i;
  for (let p = boxes[i].parent; p >= 0; p = boxes[p].parent) if (!boxes[p].open) result = p;
  return result;
}

function arrow(a, b, next) {
  if (next) return `M${a.x + a.w / 2} ${a.y + a.h}V${b.y}`;
  const start = a.y + a.h / 2, end = b.y + b.h / 2, right = a.x + a.w, toRight = b.x + b.w;
  const bulge = Math.min(24 + 0.1 * Math.abs(end - start), 1.3 * ARCS);
  return `M${right} ${start}C${right + bulge} ${start} ${toRight + bulge} ${end} ${toRight} ${end}`;
}

function draw() {
  const open = [];
  let y = GAP, rank = 0;
  const close = depth => {
    while (open.length > depth) {
      const module = open.pop();
      module.h = y - module.y;
      y += GAP;
    }
  };
  boxes.forEach((b, i) => {
    b.visible = shown(i) === i;
    if (!b.visible) return;
    close(b.depth);
    b.x = GAP + INDENT * b.depth;
    b.w = WIDTH - 2 * INDENT * b.depth;
    b.y = y;
    if (b.open) {
      open.push(b);
      y += 2 * PADDING + LINE + GAP / 2;
    } else {
      b.rank = rank++;
      b.h = 2 * PADDING + LINE * b.lines;
      y += b.h + GAP;
    }
  });
  close(0);
  for (const b of boxes) {
    b.g.setAttribute("display", b.visible ? "inline" : "none");
    b.g.classList.toggle("open", b.open);
    if (!b.visible) continue;
    b.g.setAttribute("transform", `translate(${b.x} ${b.y})`);
    b.g.firstElementChild.setAttribute("width", b.w);
    b.g.firstElementChild.setAttribute("height", b.h);
  }
  const drawn = new Set();
  for (const edge of edges) {
    const from = shown(+edge.dataset.from), to = shown(+edge.dataset.to), ends = from + " " + to;
    const first = from !== to && !drawn.has(ends);
    drawn.add(ends);
    edge.setAttribute("d", first ? arrow(boxes[from], boxes[to], boxes[to].rank === boxes[from].rank + 1) : "");
  }
  const width = WIDTH + 2 * GAP + ARCS, svg = document.documentElement;
  svg.setAttribute("height", y);
  svg.setAttribute("viewBox", `0 0 ${width} ${y}`);
}

for (const b of boxes) if (b.module) b.g.addEventListener("click", () => { b.open = !b.open; draw(); });
