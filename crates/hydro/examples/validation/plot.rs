//! Pictures as self-contained SVG.

use std::fmt::Write;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 340.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 46.0;

/// How a curve is drawn.
#[derive(Clone, Copy)]
pub enum Style {
    /// What it should be.
    Exact,
    /// What it is.
    Computed,
    /// What it should be by other equations.
    Other,
    /// The ground.
    Bed,
}

impl Style {
    fn attributes(self) -> &'static str {
        match self {
            Style::Exact => r##"stroke="#222" stroke-width="1.6""##,
            Style::Computed => r##"stroke="#0072b2" stroke-width="2.2""##,
            Style::Other => r##"stroke="#d55e00" stroke-width="1.6" stroke-dasharray="6 4""##,
            Style::Bed => r##"stroke="#999" stroke-width="1.2""##,
        }
    }
}

/// A curve with its name.
pub struct Curve {
    pub label: String,
    pub style: Style,
    pub points: Vec<[f64; 2]>,
}

impl Curve {
    pub fn new(label: &str, style: Style, points: impl Iterator<Item = [f64; 2]>) -> Self {
        Self {
            label: label.to_owned(),
            style,
            points: points.collect(),
        }
    }
}

/// Round numbers between two bounds, about `count` of them, and how many decimals they need.
fn ticks(low: f64, high: f64, count: f64) -> (Vec<f64>, usize) {
    let rough = (high - low) / count;
    let power = 10.0_f64.powf(rough.log10().floor());
    let step = power
        * [1.0, 2.0, 5.0, 10.0]
            .into_iter()
            .find(|m| m * power >= rough)
            .unwrap_or(10.0);
    let first = (low / step).ceil() as i64;
    let last = (high / step).floor() as i64;
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    ((first..=last).map(|k| k as f64 * step).collect(), decimals)
}

fn head(width: f64, height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    )
}

/// Curves over one pair of axes.
pub fn curves(x_label: &str, y_label: &str, curves: &[Curve]) -> String {
    let all = || {
        curves
            .iter()
            .flat_map(|curve| &curve.points)
            .filter(|p| p[1].is_finite())
    };
    let range = |axis: usize| {
        all().fold([f64::INFINITY, f64::NEG_INFINITY], |[a, b], p| {
            [a.min(p[axis]), b.max(p[axis])]
        })
    };
    let ([x0, x1], [y0, y1]) = (range(0), range(1));
    let margin = 0.05 * (y1 - y0);
    let (y0, y1) = (if y0 == 0.0 { 0.0 } else { y0 - margin }, y1 + margin);
    let x = |v: f64| LEFT + (WIDTH - LEFT - RIGHT) * (v - x0) / (x1 - x0);
    let y = |v: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (v - y0) / (y1 - y0);

    let mut svg = head(WIDTH, HEIGHT);
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    let (values, decimals) = ticks(x0, x1, 8.0);
    for v in values {
        let at = x(v);
        let _ = writeln!(
            svg,
            r##"<path d="M{at:.1} {bottom}V{TOP}" stroke="#eee"/><text x="{at:.1}" y="{}" text-anchor="middle">{v:.decimals$}</text>"##,
            bottom + 16.0
        );
    }
    let (values, decimals) = ticks(y0, y1, 5.0);
    for v in values {
        let at = y(v);
        let _ = writeln!(
            svg,
            r##"<path d="M{LEFT} {at:.1}H{right}" stroke="#eee"/><text x="{}" y="{:.1}" text-anchor="end">{v:.decimals$}</text>"##,
            LEFT - 6.0,
            at + 4.0
        );
    }
    let _ = writeln!(
        svg,
        r##"<path d="M{LEFT} {TOP}V{bottom}H{right}" fill="none" stroke="#222"/>
<text x="{}" y="{}" text-anchor="middle">{x_label}</text>
<text transform="translate(14 {}) rotate(-90)" text-anchor="middle">{y_label}</text>"##,
        0.5 * (LEFT + right),
        HEIGHT - 10.0,
        0.5 * (TOP + bottom)
    );
    let mut legend = LEFT + 8.0;
    for curve in curves {
        let attributes = curve.style.attributes();
        // A few hundred points are as many as one sees.
        let every = curve.points.len().div_ceil(300).max(1);
        let last = curve.points.len() - 1;
        let path: Vec<_> = curve
            .points
            .iter()
            .enumerate()
            .filter(|(k, p)| (k % every == 0 || *k == last) && p[1].is_finite())
            .map(|(_, p)| format!("{:.1},{:.1}", x(p[0]), y(p[1])))
            .collect();
        let _ = writeln!(
            svg,
            r#"<polyline fill="none" {attributes} points="{}"/>"#,
            path.join(" ")
        );
        let label = &curve.label;
        let _ = writeln!(
            svg,
            r#"<path d="M{legend} 18h26" {attributes}/><text x="{}" y="22">{label}</text>"#,
            legend + 32.0
        );
        legend += 52.0 + 6.6 * label.chars().count() as f64;
    }
    svg + "</svg>\n"
}

/// Depths in classes, as runs of equal colour, with a cross on the middle of each depression.
pub fn depths(depth_m: &ndarray::Array2<f64>) -> String {
    const CLASSES: [(f64, &str); 5] = [
        (0.01, "#deebf7"),
        (0.05, "#9ecae1"),
        (0.1, "#6baed6"),
        (0.2, "#2171b5"),
        (0.3, "#08306b"),
    ];
    const CELL: f64 = 4.0;
    let (rows, cols) = depth_m.dim();
    let (width, height) = (CELL * cols as f64 + 130.0, CELL * rows as f64 + 20.0);
    let mut svg = head(width, height);
    let _ = writeln!(svg, r#"<g transform="translate(10 10)">"#);
    let class = |h: f64| CLASSES.iter().rposition(|(from, _)| h >= *from);
    for (row, depths) in depth_m.rows().into_iter().enumerate() {
        let classes: Vec<_> = depths.iter().map(|h| class(*h)).collect();
        let mut col = 0;
        for run in classes.chunk_by(|a, b| a == b) {
            if let Some(class) = run[0] {
                let _ = writeln!(
                    svg,
                    r#"<path d="M{} {}h{}v{CELL}h-{}z" fill="{}"/>"#,
                    CELL * col as f64,
                    CELL * row as f64,
                    CELL * run.len() as f64,
                    CELL * run.len() as f64,
                    CLASSES[class].1
                );
            }
            col += run.len();
        }
    }
    for k in 0..16 {
        let [x, y] = [k % 4, k / 4].map(|k| CELL * (12.5 + 25.0 * f64::from(k)));
        let _ = writeln!(
            svg,
            r##"<path d="M{} {y}h8M{x} {}v8" stroke="#d55e00"/>"##,
            x - 4.0,
            y - 4.0
        );
    }
    let (right, bottom) = (CELL * cols as f64, CELL * rows as f64);
    let _ = writeln!(
        svg,
        r##"<rect width="{right}" height="{bottom}" fill="none" stroke="#222"/>"##
    );
    let _ = writeln!(
        svg,
        r##"<path d="M0 0V20" stroke="#d55e00" stroke-width="5"/>"##
    );
    for (k, (from, colour)) in CLASSES.iter().enumerate() {
        let y = 20.0 + 22.0 * k as f64;
        let _ = writeln!(
            svg,
            r##"<rect x="{}" y="{y}" width="18" height="14" fill="{colour}" stroke="#999"/><text x="{}" y="{}">from {from} m</text>"##,
            right + 14.0,
            right + 38.0,
            y + 11.0
        );
    }
    svg + "</g>\n</svg>\n"
}
