//! Half-open ranges of cells or faces within a row, with which dry ground is skipped.

use std::ops::Range;

/// A half-open range of columns; empty if `start >= end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Span {
    pub(crate) const EMPTY: Span = Span {
        start: usize::MAX,
        end: 0,
    };

    pub(crate) fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// From the first to the last value above `threshold`.
    pub(crate) fn above(values: &[f64], threshold: f64) -> Span {
        match values.iter().position(|v| *v > threshold) {
            None => Span::EMPTY,
            Some(start) => {
                let last = values.iter().rposition(|v| *v > threshold).unwrap_or(start);
                Span {
                    start,
                    end: last + 1,
                }
            }
        }
    }

    /// The smallest span that holds both.
    pub(crate) fn hull(self, other: Span) -> Span {
        match (self.is_empty(), other.is_empty()) {
            (true, _) => other,
            (_, true) => self,
            _ => Span {
                start: self.start.min(other.start),
                end: self.end.max(other.end),
            },
        }
    }

    /// One more column on both sides, as far as a row of `width` has them.
    pub(crate) fn grow(self, width: usize) -> Span {
        if self.is_empty() {
            return self;
        }
        Span {
            start: self.start.saturating_sub(1),
            end: (self.end + 1).min(width),
        }
    }

    /// The faces (face k lies between cells k-1 and k) between two cells of the row that touch a cell of this span.
    pub(crate) fn faces(self, width: usize) -> Span {
        if self.is_empty() {
            return self;
        }
        Span {
            start: self.start.max(1),
            end: (self.end + 1).min(width),
        }
    }

    pub(crate) fn range(self) -> Range<usize> {
        if self.is_empty() {
            0..0
        } else {
            self.start..self.end
        }
    }
}
