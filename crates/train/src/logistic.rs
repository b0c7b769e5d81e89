//! Logistic regression by iteratively reweighted least squares: the strongest baseline that looks at one cell at a time.

/// A fitted regression: the wet probability of a cell from its channels.
#[derive(Debug, Clone, PartialEq)]
pub struct Logistic {
    /// Weights of the channels as they come, not standardised.
    weights: Vec<f64>,
    bias: f64,
}

/// Newton steps; the likelihood of a standardised, slightly ridged problem settles in fewer.
const STEPS: usize = 25;
/// Ridge on the standardised weights, per row: keeps separable or constant channels finite.
const RIDGE: f64 = 1e-6;

impl Logistic {
    /// Fits `labels` (0 or 1) on `rows` (`labels.len()` × channels, row after row).
    ///
    /// `None` where only one class is present: there is nothing to separate.
    pub fn fit(rows: &[f32], labels: &[u8]) -> Option<Self> {
        let wet = labels.iter().filter(|&&l| l == 1).count();
        if wet == 0 || wet == labels.len() {
            return None;
        }
        let channels = rows.len() / labels.len();
        let (mean, scale) = moments(rows, channels);
        let size = channels + 1;
        let mut beta = vec![0.0; size];
        let mut x = vec![1.0; size];
        for _ in 0..STEPS {
            let mut hessian = vec![0.0; size * size];
            let mut gradient = vec![0.0; size];
            for (row, &label) in rows.chunks_exact(channels).zip(labels) {
                for (c, &value) in row.iter().enumerate() {
                    x[c] = (f64::from(value) - mean[c]) / scale[c];
                }
                let p = sigmoid(dot(&x, &beta));
                let weight = p * (1.0 - p);
                for i in 0..size {
                    gradient[i] += x[i] * (f64::from(label) - p);
                    let weighted = weight * x[i];
                    for j in 0..=i {
                        hessian[i * size + j] += weighted * x[j];
                    }
                }
            }
            let ridge = RIDGE * labels.len() as f64;
            for i in 0..channels {
                hessian[i * size + i] += ridge;
                gradient[i] -= ridge * beta[i];
            }
            let step = solve_spd(&mut hessian, &gradient)?;
            let largest = step.iter().fold(0.0f64, |a, s| a.max(s.abs()));
            for (b, s) in beta.iter_mut().zip(&step) {
                // A Newton step from far away may overshoot; halving it keeps the likelihood rising in practice.
                *b += if largest > 5.0 { 5.0 * s / largest } else { *s };
            }
            if largest < 1e-8 {
                break;
            }
        }
        let weights: Vec<f64> = (0..channels).map(|c| beta[c] / scale[c]).collect();
        let bias = beta[channels] - dot(&weights, &mean);
        Some(Self { weights, bias })
    }

    /// The wet probability of a cell.
    pub fn probability(&self, channels: impl Iterator<Item = f32>) -> f32 {
        let z: f64 = channels
            .zip(&self.weights)
            .map(|(x, w)| f64::from(x) * w)
            .sum();
        sigmoid(z + self.bias) as f32
    }
}

fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Mean and standard deviation of each channel; a constant channel gets 1, so that it drops out.
fn moments(rows: &[f32], channels: usize) -> (Vec<f64>, Vec<f64>) {
    let count = (rows.len() / channels) as f64;
    let mut mean = vec![0.0; channels];
    for row in rows.chunks_exact(channels) {
        for (m, &value) in mean.iter_mut().zip(row) {
            *m += f64::from(value) / count;
        }
    }
    let mut variance = vec![0.0; channels];
    for row in rows.chunks_exact(channels) {
        for ((v, m), &value) in variance.iter_mut().zip(&mean).zip(row) {
            *v += (f64::from(value) - m).powi(2) / count;
        }
    }
    let scale = variance
        .iter()
        .map(|v| if *v > 1e-20 { v.sqrt() } else { 1.0 });
    (mean, scale.collect())
}

/// Solves A x = b for symmetric positive definite A by Cholesky; only the lower triangle is read, and overwritten.
/// `None` where A is not positive definite.
fn solve_spd(a: &mut [f64], b: &[f64]) -> Option<Vec<f64>> {
    let n = b.len();
    for i in 0..n {
        for j in 0..=i {
            let sum = a[i * n + j] - (0..j).map(|k| a[i * n + k] * a[j * n + k]).sum::<f64>();
            if i == j {
                if sum <= 0.0 || !sum.is_finite() {
                    return None;
                }
                a[i * n + i] = sum.sqrt();
            } else {
                a[i * n + j] = sum / a[j * n + j];
            }
        }
    }
    let mut x = b.to_vec();
    for i in 0..n {
        x[i] = (x[i] - (0..i).map(|k| a[i * n + k] * x[k]).sum::<f64>()) / a[i * n + i];
    }
    for i in (0..n).rev() {
        x[i] = (x[i] - (i + 1..n).map(|k| a[k * n + i] * x[k]).sum::<f64>()) / a[i * n + i];
    }
    Some(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows whose labels follow a known regression exactly: every row stands `wet + dry` times in that proportion.
    #[test]
    fn recovers_the_odds_of_a_two_by_two_table() {
        // 30 of 40 wet where x = 1, 10 of 50 wet where x = 0: slope = log odds ratio (the textbook result).
        let mut rows = Vec::new();
        let mut labels = Vec::new();
        for (x, wet, dry) in [(1.0f32, 30, 10), (0.0, 10, 40)] {
            for k in 0..wet + dry {
                rows.extend([x, 7.0]); // and a constant channel
                labels.push(u8::from(k < wet));
            }
        }
        let fit = Logistic::fit(&rows, &labels).unwrap();
        assert!((fit.probability([1.0, 7.0].into_iter()) - 0.75).abs() < 1e-4);
        assert!((fit.probability([0.0, 7.0].into_iter()) - 0.20).abs() < 1e-4);
        let odds_ratio = (30.0f64 / 10.0) / (10.0 / 40.0);
        assert!(
            (fit.weights[0] - odds_ratio.ln()).abs() < 1e-3,
            "{}",
            fit.weights[0]
        );
    }

    #[test]
    fn separable_classes_stay_finite_and_one_class_has_no_fit() {
        let rows = [-2.0f32, -1.0, 1.0, 2.0];
        let fit = Logistic::fit(&rows, &[0, 0, 1, 1]).unwrap();
        assert!(fit.weights[0].is_finite() && fit.weights[0] > 0.0);
        assert!(fit.probability([2.0].into_iter()) > 0.99);
        assert!(Logistic::fit(&rows, &[0; 4]).is_none());
    }

    #[test]
    fn cholesky_solves_a_hand_made_system() {
        // A = [[4, 2], [2, 3]], x = [1, -2] → b = [0, -4]
        let x = solve_spd(&mut [4.0, 0.0, 2.0, 3.0], &[0.0, -4.0]).unwrap();
        assert!((x[0] - 1.0).abs() < 1e-12 && (x[1] + 2.0).abs() < 1e-12);
        assert!(
            solve_spd(&mut [1.0, 0.0, 2.0, 1.0], &[1.0, 1.0]).is_none(),
            "indefinite"
        );
    }
}
