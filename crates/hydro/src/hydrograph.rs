//! A quantity given over time.

use serde::{Deserialize, Serialize};

/// A discharge or a water level over time, linear between its points; two points of one time make a jump.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hydrograph {
    /// Time in s of the simulation's clock, never falling, and value; at least one point.
    pub points: Vec<(f64, f64)>,
    /// What holds before the first and after the last point.
    pub beyond: Beyond,
}

/// What holds before the first and after the last point of a [`Hydrograph`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Beyond {
    /// The value of the nearest point.
    Hold,
    /// Nothing: no inflow; no given level, so that the edge is a wall and cells are free.
    Stop,
}

impl Hydrograph {
    /// The same value for ever.
    pub fn constant(value: f64) -> Self {
        Self {
            points: vec![(0.0, value)],
            beyond: Beyond::Hold,
        }
    }

    /// What is wrong with the points, if anything is.
    pub(crate) fn fault(&self) -> Option<String> {
        if self.points.is_empty() {
            return Some("its hydrograph has no points".to_owned());
        }
        if let Some((t, v)) = self
            .points
            .iter()
            .find(|(t, v)| !(t.is_finite() && v.is_finite()))
        {
            return Some(format!(
                "its hydrograph has the point ({t} s, {v}), which is not finite"
            ));
        }
        self.points
            .windows(2)
            .find(|pair| pair[1].0 < pair[0].0)
            .map(|pair| {
                format!(
                    "its hydrograph goes back in time, from {} s to {} s",
                    pair[0].0, pair[1].0
                )
            })
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = f64> {
        self.points.iter().map(|point| point.1)
    }

    /// The value at a time, after the jump if there is one; `None` where the hydrograph has stopped.
    pub(crate) fn at(&self, time_s: f64) -> Option<f64> {
        let after = self.points.partition_point(|point| point.0 <= time_s);
        let (first, last) = (self.points.first()?, self.points.last()?);
        if after == 0 {
            (self.beyond == Beyond::Hold).then_some(first.1)
        } else if after == self.points.len() {
            (self.beyond == Beyond::Hold || time_s == last.0).then_some(last.1)
        } else {
            Some(interpolate(
                self.points[after - 1],
                self.points[after],
                time_s,
            ))
        }
    }

    /// The integral from `start_s` to `end_s`, 0 where the hydrograph has stopped.
    pub(crate) fn integral(&self, start_s: f64, end_s: f64) -> f64 {
        let (Some(&first), Some(&last)) = (self.points.first(), self.points.last()) else {
            return 0.0;
        };
        let mut total = 0.0;
        if self.beyond == Beyond::Hold {
            total += first.1 * (end_s.min(first.0) - start_s).max(0.0);
            total += last.1 * (end_s - start_s.max(last.0)).max(0.0);
        }
        let from = self.points.partition_point(|point| point.0 <= start_s);
        for pair in self.points[from.saturating_sub(1)..].windows(2) {
            let (a, b) = (pair[0].0.max(start_s), pair[1].0.min(end_s));
            if pair[0].0 >= end_s {
                break;
            }
            if a < b {
                let ends = interpolate(pair[0], pair[1], a) + interpolate(pair[0], pair[1], b);
                total += 0.5 * (b - a) * ends;
            }
        }
        total
    }

    /// The time from `start_s` on at which the value leaves `threshold` upwards, or is above it; `None` if it never is.
    pub(crate) fn next_above(&self, threshold: f64, start_s: f64) -> Option<f64> {
        if self.at(start_s).is_some_and(|value| value > threshold) {
            return Some(start_s);
        }
        let from = self.points.partition_point(|point| point.0 <= start_s);
        let above = from
            + self.points[from..]
                .iter()
                .position(|point| point.1 > threshold)?;
        let rising = above
            .checked_sub(1)
            .map(|before| (self.points[before], self.points[above]));
        Some(match rising {
            Some((a, b)) if a.1 <= threshold && a.0 < b.0 => {
                let crossing = a.0 + (b.0 - a.0) * ((threshold - a.1) / (b.1 - a.1));
                crossing.clamp(start_s.max(a.0), b.0)
            }
            _ => self.points[above].0,
        })
    }

    /// The largest value from `start_s` to `end_s`; `None` if the hydrograph has stopped all the while.
    pub(crate) fn largest(&self, start_s: f64, end_s: f64) -> Option<f64> {
        let from = self.points.partition_point(|point| point.0 < start_s);
        self.points[from..]
            .iter()
            .take_while(|point| point.0 <= end_s)
            .map(|point| point.1)
            .chain(self.at(start_s))
            .chain(self.at(end_s))
            .reduce(f64::max)
    }
}

fn interpolate(a: (f64, f64), b: (f64, f64), time_s: f64) -> f64 {
    a.1 + (b.1 - a.1) * ((time_s - a.0) / (b.0 - a.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jump(beyond: Beyond) -> Hydrograph {
        Hydrograph {
            points: vec![(10.0, 1.0), (20.0, 3.0), (20.0, 5.0), (40.0, 0.5)],
            beyond,
        }
    }

    #[test]
    fn values_between_and_beyond_the_points() {
        let (hold, stop) = (jump(Beyond::Hold), jump(Beyond::Stop));
        assert_eq!((hold.at(0.0), stop.at(0.0)), (Some(1.0), None));
        assert_eq!((hold.at(15.0), stop.at(15.0)), (Some(2.0), Some(2.0)));
        assert_eq!(stop.at(20.0), Some(5.0));
        assert_eq!(
            (hold.at(41.0), stop.at(40.0), stop.at(41.0)),
            (Some(0.5), Some(0.5), None)
        );
        assert_eq!(hold.largest(0.0, 12.0), Some(1.4));
        assert_eq!(
            (hold.largest(12.0, 30.0), stop.largest(50.0, 60.0)),
            (Some(5.0), None)
        );
    }

    #[test]
    fn water_comes_where_the_value_rises() {
        let (hold, stop) = (jump(Beyond::Hold), jump(Beyond::Stop));
        assert_eq!(
            (hold.next_above(0.5, 0.0), stop.next_above(0.5, 0.0)),
            (Some(0.0), Some(10.0))
        );
        assert_eq!(hold.next_above(2.0, 0.0), Some(15.0));
        assert_eq!(stop.next_above(4.0, 0.0), Some(20.0));
        assert_eq!(hold.next_above(1.0, 0.0), Some(10.0));
        assert_eq!(
            (hold.next_above(0.5, 41.0), hold.next_above(0.4, 41.0)),
            (None, Some(41.0))
        );
        assert_eq!(stop.next_above(0.0, 41.0), None);
    }

    #[test]
    fn integrals_are_those_of_the_trapezia() {
        let (hold, stop) = (jump(Beyond::Hold), jump(Beyond::Stop));
        // 20 before the jump, 55 after it.
        assert!((stop.integral(-100.0, 100.0) - 75.0).abs() < 1e-12);
        assert!((hold.integral(-100.0, 100.0) - (110.0 + 75.0 + 30.0)).abs() < 1e-12);
        // In parts of any length the same.
        let parts: f64 = (0..700)
            .map(|i| hold.integral(f64::from(i) * 0.1 - 5.0, f64::from(i + 1) * 0.1 - 5.0))
            .sum();
        assert!((parts - hold.integral(-5.0, 65.0)).abs() < 1e-11);
    }
}
