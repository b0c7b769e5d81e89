//! A flow chart as one SVG file: one column of boxes in the order in which the layers run, arrows between them. In a browser a click
//! on a module folds it or unfolds it; other programs show the overview.

use std::fmt::Write;

use super::chart::lines;
use super::tree::Node;
use super::{Summary, short};

/// Modules are unfolded level by level until the overview has more than so many boxes.
const OVERVIEW_BOXES: usize = 40;

/// Sizes in pixels; `chart.js` has them from here.
const WIDTH: f64 = 360.0;
const LINE: f64 = 14.0;
const PADDING: f64 = 6.0;
const GAP: f64 = 18.0;
const INDENT: f64 = 12.0;

/// A box to be drawn: a layer, or a module with the boxes inside.
struct Chart {
    boxes: Vec<Frame>,
    /// Between layers.
    edges: Vec<[usize; 2]>,
}

struct Frame {
    parent: Option<usize>,
    depth: usize,
    /// Text while folded, and of a layer.
    lines: Vec<String>,
    /// Its name, of a module.
    module: Option<String>,
    open: bool,
}

impl Summary {
    /// The flow chart as SVG.
    pub fn to_svg(&self) -> String {
        let tree = self.tree();
        let mut chart = Chart {
            boxes: Vec::new(),
            edges: Vec::new(),
        };
        let mut of_layer = vec![0; self.layers.len()];
        for node in &tree {
            chart.add(self, node, None, 0, &mut of_layer);
        }
        for (to, layer) in self.layers.iter().enumerate() {
            let sources = layer.sources.iter();
            chart
                .edges
                .extend(sources.map(|from| [of_layer[*from], of_layer[to]]));
        }
        chart.unfold();
        chart.draw(self)
    }
}

impl Chart {
    fn add(
        &mut self,
        summary: &Summary,
        node: &Node,
        parent: Option<usize>,
        depth: usize,
        of_layer: &mut [usize],
    ) {
        let place = self.boxes.len();
        match node {
            Node::Layer { index, label } => {
                of_layer[*index] = place;
                self.boxes.push(Frame {
                    parent,
                    depth,
                    lines: lines(&summary.layers[*index], label),
                    module: None,
                    open: false,
                });
            }
            Node::Module { label, children } => {
                let layers = node.layers();
                let total = |of: fn(&super::Layer) -> usize| {
                    layers
                        .iter()
                        .map(|i| of(&summary.layers[*i]))
                        .sum::<usize>()
                };
                let counts = format!(
                    "{} layers, {} parameters, {} MACs",
                    layers.len(),
                    short(total(super::Layer::params)),
                    short(total(|layer| layer.macs))
                );
                self.boxes.push(Frame {
                    parent,
                    depth,
                    lines: vec![format!("▸ {label}"), counts],
                    module: Some(label.clone()),
                    open: false,
                });
                for child in children {
                    self.add(summary, child, Some(place), depth + 1, of_layer);
                }
            }
        }
    }

    /// Opens the outer modules as far as the overview allows.
    fn unfold(&mut self) {
        let deepest = self.boxes.iter().map(|b| b.depth).max().unwrap_or(0);
        let shown = |depth: usize| self.boxes.iter().filter(|b| b.depth <= depth).count();
        let depth = (0..=deepest)
            .rev()
            .find(|depth| shown(*depth) <= OVERVIEW_BOXES);
        for b in &mut self.boxes {
            b.open = b.module.is_some() && b.depth < depth.unwrap_or(0);
        }
    }

    fn visible(&self, mut place: usize) -> bool {
        while let Some(parent) = self.boxes[place].parent {
            if !self.boxes[parent].open {
                return false;
            }
            place = parent;
        }
        true
    }

    /// The box that stands for a layer: the outermost folded module around it, or itself.
    fn shown(&self, place: usize) -> usize {
        let mut shown = place;
        let mut at = place;
        while let Some(parent) = self.boxes[at].parent {
            if !self.boxes[parent].open {
                shown = parent;
            }
            at = parent;
        }
        shown
    }

    /// `[x, y, width, height]` of every visible box, and the height of all.
    fn layout(&self) -> (Vec<Option<[f64; 4]>>, f64) {
        let mut places = vec![None; self.boxes.len()];
        let mut y = GAP;
        let mut open: Vec<usize> = Vec::new();
        let close = |until: usize,
                     open: &mut Vec<usize>,
                     places: &mut Vec<Option<[f64; 4]>>,
                     y: &mut f64| {
            while open.len() > until {
                let module = open.pop().unwrap_or_default();
                if let Some(place) = &mut places[module] {
                    place[3] = *y - place[1];
                }
                *y += GAP;
            }
        };
        for (i, b) in self.boxes.iter().enumerate() {
            if !self.visible(i) {
                continue;
            }
            close(b.depth, &mut open, &mut places, &mut y);
            let x = GAP + INDENT * b.depth as f64;
            let width = WIDTH - 2.0 * INDENT * b.depth as f64;
            if b.open {
                places[i] = Some([x, y, width, 0.0]);
                open.push(i);
                y += 2.0 * PADDING + LINE + GAP / 2.0;
            } else {
                let height = 2.0 * PADDING + LINE * b.lines.len() as f64;
                places[i] = Some([x, y, width, height]);
                y += height + GAP;
            }
        }
        close(0, &mut open, &mut places, &mut y);
        (places, y)
    }
}

impl Chart {
    fn draw(&self, summary: &Summary) -> String {
        let (places, height) = self.layout();
        let width = WIDTH + 2.0 * GAP + ARCS;
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
             font-family=\"sans-serif\" font-size=\"11\">\n<title>{}: {} parameters, {} multiply-adds</title>\n<style>{STYLE}</style>\n\
             <defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\">\
             <path d=\"M0 0L8 4L0 8z\" fill=\"#556\"/></marker></defs>\n",
            escaped(&summary.model),
            short(summary.trainable + summary.non_trainable),
            short(summary.macs),
        );
        for (b, place) in self.boxes.iter().zip(&places) {
            b.draw(&mut text, *place);
        }
        // Boxes without an open module among them, from top to bottom.
        let mut rank = vec![0; self.boxes.len()];
        let solid = (0..self.boxes.len()).filter(|i| places[*i].is_some() && !self.boxes[*i].open);
        for (i, place) in solid.enumerate() {
            rank[place] = i;
        }
        let mut drawn = std::collections::HashSet::new();
        for [from, to] in &self.edges {
            let ends = [self.shown(*from), self.shown(*to)];
            let path = match (places[ends[0]], places[ends[1]]) {
                (Some(a), Some(b)) if ends[0] != ends[1] && drawn.insert(ends) => {
                    arrow(a, b, rank[ends[1]] == rank[ends[0]] + 1)
                }
                _ => String::new(),
            };
            let _ = writeln!(
                text,
                "<path class=\"edge\" data-from=\"{from}\" data-to=\"{to}\" d=\"{path}\"/>"
            );
        }
        let sizes = format!(
            "const WIDTH={WIDTH},LINE={LINE},PADDING={PADDING},GAP={GAP},INDENT={INDENT},ARCS={ARCS};"
        );
        let _ = write!(
            text,
            "<script><![CDATA[\n{sizes}\n{}]]></script>\n</svg>\n",
            include_str!("chart.js")
        );
        text
    }
}

impl Frame {
    fn draw(&self, text: &mut String, place: Option<[f64; 4]>) {
        let [x, y, width, height] = place.unwrap_or_default();
        let class = match (&self.module, self.open) {
            (Some(_), true) => "box module open",
            (Some(_), false) => "box module",
            (None, _) if self.lines.len() > 2 => "box weights",
            (None, _) => "box",
        };
        let hidden = if place.is_none() {
            " display=\"none\""
        } else {
            ""
        };
        let parent = self.parent.map_or(-1, |parent| parent as i64);
        let _ = write!(
            text,
            "<g class=\"{class}\" data-parent=\"{parent}\" data-depth=\"{}\" data-lines=\"{}\" transform=\"translate({x} {y})\"{hidden}>\
             <rect width=\"{width}\" height=\"{height}\" rx=\"4\"/>",
            self.depth,
            self.lines.len()
        );
        let mut line = |class: &str, i: usize, line: &str| {
            let y = PADDING + LINE * (i as f64 + 0.8);
            let _ = write!(
                text,
                "<text class=\"{class}\" x=\"8\" y=\"{y}\">{}</text>",
                escaped(line)
            );
        };
        if let Some(module) = &self.module {
            line("unfolded", 0, &format!("▾ {module}"));
        }
        for (i, content) in self.lines.iter().enumerate() {
            line(if i == 0 { "folded name" } else { "folded" }, i, content);
        }
        text.push_str("</g>\n");
    }
}

/// Room for arrows beside the boxes.
const ARCS: f64 = 200.0;

const STYLE: &str = ".box rect{fill:#f4f4f6;stroke:#99a}.weights rect{fill:#e3eefb;stroke:#68a}.module rect{fill:#fff6e0;stroke:#b93}\
.module{cursor:pointer}.open>rect{fill:#fffdf7;stroke:#cb7}.name{font-weight:bold}.unfolded{display:none}.open .folded{display:none}\
.open .unfolded{display:inline;font-weight:bold}.edge{fill:none;stroke:#556;marker-end:url(#arrow);pointer-events:none}";

/// Down to the next box, or beside those in between.
fn arrow(from: [f64; 4], to: [f64; 4], next: bool) -> String {
    let [x, y, width, height] = from;
    let [to_x, to_y, to_width, to_height] = to;
    let middle = x + width / 2.0;
    if next {
        return format!("M{middle} {}V{to_y}", y + height);
    }
    let (start, end) = (y + height / 2.0, to_y + to_height / 2.0);
    let bulge = (24.0 + 0.1 * (end - start).abs()).min(1.3 * ARCS);
    let (right, to_right) = (x + width, to_x + to_width);
    format!(
        "M{right} {start}C{} {start} {} {end} {to_right} {end}",
        right + bulge,
        to_right + bulge
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;")
}
