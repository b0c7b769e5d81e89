//! Line charts as inline SVG; colours and fonts come from the page's style sheet.

use std::fmt::Write;

use super::escape;

/// A line over the epochs.
pub struct Series<'a> {
    /// Name in the legend.
    pub name: &'a str,
    /// CSS colour.
    pub color: &'a str,
    /// `(epoch, value)`; values that are not finite leave a gap.
    pub points: Vec<(f64, f64)>,
}

/// A value to be measured by, drawn as a dashed horizontal line.
pub struct Fixed<'a> {
    /// Name in the legend.
    pub name: String,
    /// CSS colour.
    pub color: &'a str,
    /// The value.
    pub value: f64,
}

/// A chart over the epochs.
pub struct Chart<'a> {
    /// What a screen reader says first.
    pub title: &'a str,
    /// Lines.
    pub series: Vec<Series<'a>>,
    /// Horizontal lines.
    pub fixed: Vec<Fixed<'a>>,
    /// Lowest and highest value; from the data where absent.
    pub range: Option<(f64, f64)>,
    /// Epoch to mark, with the word for it.
    pub mark: Option<(f64, &'a str)>,
}

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 40.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 34.0;
/// Dash patterns, so that lines can be told apart without colour.
const DASHES: [&str; 5] = ["7 4", "2 3", "10 3 2 3", "4 4", "1 5"];

impl Chart<'_> {
    /// The chart and its legend.
    pub fn svg(&self) -> String {
        let finite = || {
            self.series
                .iter()
                .flat_map(|s| &s.points)
                .filter(|p| p.1.is_finite())
        };
        let last = finite().map(|p| p.0).fold(1.0, f64::max);
        let first = finite().map(|p| p.0).fold(last, f64::min);
        let (low, high) = self.range.unwrap_or_else(|| {
            let values = || finite().map(|p| p.1);
            let (low, high) = (
                values().fold(f64::INFINITY, f64::min),
                values().fold(f64::NEG_INFINITY, f64::max),
            );
            if low <= high { (low, high) } else { (0.0, 1.0) }
        });
        let ticks = ticks(low, high);
        let (low, high) = (ticks[0], ticks[ticks.len() - 1]);
        let x = |epoch: f64| {
            let share = if last > first {
                (epoch - first) / (last - first)
            } else {
                0.5
            };
            LEFT + 8.0 + share * (WIDTH - LEFT - RIGHT - 16.0)
        };
        let y = |value: f64| TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM);

        let mut svg = format!(
            "<svg class=\"curve\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            escape(&self.description())
        );
        let decimals = decimals(ticks[1] - ticks[0]);
        for &tick in &ticks {
            let at = y(tick);
            _ = write!(
                svg,
                "<line class=\"rule\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{tick:.decimals$}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                at + 4.0,
            );
        }
        let axis = HEIGHT - BOTTOM;
        _ = write!(
            svg,
            "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{axis}\" y2=\"{axis}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">epoch</text>",
            WIDTH - RIGHT,
            WIDTH - RIGHT,
            HEIGHT - 3.0,
        );
        for epoch in epoch_ticks(first, last) {
            _ = write!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{epoch}</text>",
                x(epoch),
                axis + 15.0,
            );
        }
        if let Some((epoch, word)) = self.mark {
            let at = x(epoch);
            let (anchor, shift) = if at > WIDTH / 2.0 {
                ("end", -4.0)
            } else {
                ("start", 4.0)
            };
            _ = write!(
                svg,
                "<line class=\"axis\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{axis}\" stroke-dasharray=\"1 3\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
                at + shift,
                TOP - 5.0,
                escape(word),
            );
        }
        for (i, fixed) in self.fixed.iter().enumerate() {
            let at = y(fixed.value.clamp(low, high));
            _ = write!(
                svg,
                "<line class=\"fixed\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"{}\" stroke-dasharray=\"{}\">\
                 <title>{}: {:.3}</title></line>",
                WIDTH - RIGHT,
                fixed.color,
                DASHES[i % DASHES.len()],
                escape(&fixed.name),
                fixed.value,
            );
        }
        for series in &self.series {
            for run in series.points.split(|p| !p.1.is_finite()) {
                let path: Vec<String> = run
                    .iter()
                    .map(|&(epoch, value)| {
                        format!("{:.1},{:.1}", x(epoch), y(value.clamp(low, high)))
                    })
                    .collect();
                _ = write!(
                    svg,
                    "<polyline class=\"series\" stroke=\"{}\" points=\"{}\"/>",
                    series.color,
                    path.join(" "),
                );
                for &(epoch, value) in run {
                    _ = write!(
                        svg,
                        "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.6\" fill=\"{}\"><title>epoch {epoch}: {} {value:.4}</title></circle>",
                        x(epoch),
                        y(value.clamp(low, high)),
                        series.color,
                        escape(series.name),
                    );
                }
            }
        }
        svg + "</svg>" + &self.legend()
    }

    fn legend(&self) -> String {
        let item = |name: &str, color: &str, dash: &str, width: f64| {
            format!(
                "<li><svg width=\"26\" height=\"8\" aria-hidden=\"true\"><line x1=\"0\" x2=\"26\" y1=\"4\" y2=\"4\" stroke=\"{color}\" \
                 stroke-width=\"{width}\" stroke-dasharray=\"{dash}\"/></svg>{}</li>",
                escape(name)
            )
        };
        let mut items = String::new();
        for series in &self.series {
            items += &item(series.name, series.color, "none", 2.4);
        }
        for (i, fixed) in self.fixed.iter().enumerate() {
            let name = format!("{} {:.3}", fixed.name, fixed.value);
            items += &item(&name, fixed.color, DASHES[i % DASHES.len()], 1.8);
        }
        format!("<ul class=\"legend\">{items}</ul>")
    }

    fn description(&self) -> String {
        let mut text = self.title.to_string();
        for series in &self.series {
            let finite: Vec<_> = series.points.iter().filter(|p| p.1.is_finite()).collect();
            if let (Some(first), Some(last)) = (finite.first(), finite.last()) {
                text += &format!(
                    "; {} from {:.3} in epoch {} to {:.3} in epoch {}",
                    series.name, first.1, first.0, last.1, last.0
                );
            }
        }
        for fixed in &self.fixed {
            text += &format!("; {} {:.3}", fixed.name, fixed.value);
        }
        text
    }
}

/// Four to eight round values that span `low..high`, at steps of 1, 2 or 5 times a power of ten.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let span = (high - low).max(low.abs() * 1e-3).max(1e-9);
    let power = 10f64.powf((span / 5.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .map(|m| m * power)
        .into_iter()
        .find(|step| span / step <= 5.0 + 1e-9)
        .unwrap_or(10.0 * power);
    let first = (low / step + 1e-9).floor() as i64;
    let last = ((high / step - 1e-9).ceil() as i64).max(first + 1);
    (first..=last).map(|i| i as f64 * step).collect()
}

fn decimals(step: f64) -> usize {
    (-step.log10().floor()).clamp(0.0, 6.0) as usize
}

/// At most eleven whole epochs, the first and the last among them.
fn epoch_ticks(first: f64, last: f64) -> Vec<f64> {
    let step = ((last - first) / 10.0).ceil().max(1.0);
    let mut ticks: Vec<f64> = (0..)
        .map(|i| first + i as f64 * step)
        .take_while(|epoch| *epoch <= last - 0.6 * step)
        .collect();
    ticks.push(last);
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_span_the_data() {
        let near = |ticks: Vec<f64>, expected: &[f64]| {
            assert_eq!(ticks.len(), expected.len(), "{ticks:?}");
            for (a, b) in ticks.iter().zip(expected) {
                assert!((a - b).abs() < 1e-9, "{ticks:?}");
            }
        };
        near(ticks(0.0, 1.0), &[0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
        near(ticks(0.213, 0.61), &[0.2, 0.3, 0.4, 0.5, 0.6, 0.7]);
        near(ticks(3.0, 3.0), &[3.0, 3.001]);
        assert_eq!(epoch_ticks(1.0, 1.0), [1.0]);
        assert_eq!(epoch_ticks(1.0, 4.0), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(*epoch_ticks(1.0, 33.0).last().unwrap(), 33.0);
    }

    #[test]
    fn a_gap_is_left_where_the_value_is_not_finite() {
        let chart = Chart {
            title: "loss",
            series: vec![Series {
                name: "validation",
                color: "red",
                points: vec![(1.0, 0.5), (2.0, f64::NAN), (3.0, 0.25)],
            }],
            fixed: vec![],
            range: None,
            mark: None,
        };
        let svg = chart.svg();
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(!svg.contains("NaN"));
        assert!(svg.contains("validation from 0.500 in epoch 1 to 0.250 in epoch 3"));
    }
}
