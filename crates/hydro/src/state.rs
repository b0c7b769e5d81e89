//! The state of a simulation, to be kept and continued bit for bit.

use std::io::{self, Read, Write};

use ndarray::Array2;

use crate::{MassBalance, Maxima};

/// Begins every state; the last byte is the version of the format.
const MAGIC: [u8; 8] = *b"pluvhyd\x01";

/// Everything of a [`Solver`](crate::Solver) that changes while it runs: depths, discharges, what has sunk in, the rain that
/// falls, the clock, the balance and the maxima. Terrain, boundaries and settings are not in it.
#[derive(Debug, Clone, PartialEq)]
pub struct SolverState {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) time_s: f64,
    /// `stored_m3` is not used.
    pub(crate) balance: MassBalance,
    pub(crate) depth_m: Vec<f64>,
    pub(crate) x_m2_per_s: Vec<f64>,
    pub(crate) y_m2_per_s: Vec<f64>,
    pub(crate) rain_m_per_s: Vec<f64>,
    pub(crate) row_max_depth_m: Vec<f64>,
    /// Empty without Green-Ampt infiltration.
    pub(crate) infiltrated_m: Vec<f64>,
    pub(crate) maxima: Option<Maxima>,
}

impl SolverState {
    /// Simulated time in s.
    pub fn time_s(&self) -> f64 {
        self.time_s
    }

    /// Writes the state: a magic number with the version, `height` and `width`, and then every number, all as 64 bits, little
    /// endian; floating-point numbers come back exactly.
    ///
    /// # Errors
    /// What the writer returns.
    pub fn write_to(&self, mut writer: impl Write) -> io::Result<()> {
        writer.write_all(&MAGIC)?;
        let parts =
            u64::from(!self.infiltrated_m.is_empty()) | u64::from(self.maxima.is_some()) << 1;
        for number in [self.height as u64, self.width as u64, parts] {
            writer.write_all(&number.to_le_bytes())?;
        }
        let MassBalance {
            placed_m3,
            rain_m3,
            inflow_m3,
            infiltration_m3,
            outflow_m3,
            stored_m3: _,
        } = self.balance;
        let scalars = [
            self.time_s,
            placed_m3,
            rain_m3,
            inflow_m3,
            infiltration_m3,
            outflow_m3,
        ];
        write(&mut writer, &scalars)?;
        for values in [
            &self.depth_m,
            &self.x_m2_per_s,
            &self.y_m2_per_s,
            &self.rain_m_per_s,
            &self.row_max_depth_m,
            &self.infiltrated_m,
        ] {
            write(&mut writer, values)?;
        }
        if let Some(maxima) = &self.maxima {
            write(&mut writer, &[maxima.wet_depth_m])?;
            for values in [&maxima.depth_m, &maxima.speed_m_per_s, &maxima.arrival_s] {
                write(&mut writer, values.as_slice().unwrap_or_default())?;
            }
        }
        writer.flush()
    }

    /// Reads what [`write_to`](Self::write_to) has written.
    ///
    /// # Errors
    /// What the reader returns, [`io::ErrorKind::UnexpectedEof`] for a state that ends early, and
    /// [`io::ErrorKind::InvalidData`] for what is no state of this version or goes on after its end.
    pub fn read_from(mut reader: impl Read) -> io::Result<Self> {
        let mut magic = [0; 8];
        reader.read_exact(&mut magic)?;
        if magic != MAGIC {
            return Err(invalid("this is no solver state of version 1"));
        }
        let mut number = || -> io::Result<u64> {
            let mut bytes = [0; 8];
            reader.read_exact(&mut bytes)?;
            Ok(u64::from_le_bytes(bytes))
        };
        let [height, width, parts] = [number()?, number()?, number()?];
        let cells = height.checked_mul(width).filter(|cells| *cells < 1 << 40);
        if cells.is_none_or(|cells| cells == 0) || parts > 3 {
            return Err(invalid("the header of the solver state cannot be"));
        }
        let (height, width) = (height as usize, width as usize);
        let cells = height * width;
        let scalars = read(&mut reader, 6)?;
        let depth_m = read(&mut reader, cells)?;
        let x_m2_per_s = read(&mut reader, cells + height)?;
        let y_m2_per_s = read(&mut reader, cells + width)?;
        let rain_m_per_s = read(&mut reader, cells)?;
        let row_max_depth_m = read(&mut reader, height)?;
        let infiltrated_m = read(&mut reader, if parts & 1 == 1 { cells } else { 0 })?;
        let maxima = if parts & 2 == 2 {
            let wet_depth_m = read(&mut reader, 1)?[0];
            let mut grid = || -> io::Result<Array2<f64>> {
                let values = read(&mut reader, cells)?;
                Array2::from_shape_vec((height, width), values)
                    .map_err(|_| invalid("the maxima of the solver state have a wrong shape"))
            };
            Some(Maxima {
                wet_depth_m,
                depth_m: grid()?,
                speed_m_per_s: grid()?,
                arrival_s: grid()?,
            })
        } else {
            None
        };
        if reader.read(&mut [0])? != 0 {
            return Err(invalid("the solver state goes on after its end"));
        }
        Ok(Self {
            height,
            width,
            time_s: scalars[0],
            balance: MassBalance {
                placed_m3: scalars[1],
                rain_m3: scalars[2],
                inflow_m3: scalars[3],
                infiltration_m3: scalars[4],
                outflow_m3: scalars[5],
                stored_m3: 0.0,
            },
            depth_m,
            x_m2_per_s,
            y_m2_per_s,
            rain_m_per_s,
            row_max_depth_m,
            infiltrated_m,
            maxima,
        })
    }

    /// The first array with a number that no run leaves behind, if there is one.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let not_negative = |values: &[f64]| values.iter().all(|v| v.is_finite() && *v >= 0.0);
        let finite = |values: &[f64]| values.iter().all(|v| v.is_finite());
        let balance = &self.balance;
        let scalars = [
            self.time_s,
            balance.placed_m3,
            balance.rain_m3,
            balance.inflow_m3,
            balance.infiltration_m3,
            balance.outflow_m3,
        ];
        [
            ("its clock or balance", finite(&scalars)),
            ("a depth", not_negative(&self.depth_m)),
            ("a discharge to the east", finite(&self.x_m2_per_s)),
            ("a discharge to the south", finite(&self.y_m2_per_s)),
            ("a rain rate", not_negative(&self.rain_m_per_s)),
            (
                "a row's greatest depth",
                not_negative(&self.row_max_depth_m),
            ),
            ("an infiltrated depth", not_negative(&self.infiltrated_m)),
        ]
        .into_iter()
        .find_map(|(what, right)| (!right).then_some(what))
    }
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// Numbers that are written or read at a time: memory is taken as the file shows that it has them.
const AT_ONCE: usize = 8192;

fn write(writer: &mut impl Write, values: &[f64]) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(8 * AT_ONCE);
    for values in values.chunks(AT_ONCE) {
        bytes.clear();
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        writer.write_all(&bytes)?;
    }
    Ok(())
}

fn read(reader: &mut impl Read, count: usize) -> io::Result<Vec<f64>> {
    let mut values = Vec::new();
    let mut bytes = vec![0; 8 * AT_ONCE.min(count)];
    while values.len() < count {
        let part = &mut bytes[..8 * AT_ONCE.min(count - values.len())];
        reader.read_exact(part)?;
        values.extend(
            part.as_chunks::<8>()
                .0
                .iter()
                .map(|bytes| f64::from_le_bytes(*bytes)),
        );
    }
    Ok(values)
}
