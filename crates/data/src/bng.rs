//! The British National Grid (EPSG:27700): latitude and longitude (WGS84) to easting and northing and back.
//!
//! Ordnance Survey, *A Guide to Coordinate Systems in Great Britain*: sections 6.2 and 6.6 (seven-parameter Helmert transformation,
//! good to about 5 m) and annexes A to C (constants; latitude and longitude to Cartesian coordinates and back; the transverse
//! Mercator projection).

use serde::Deserialize;

use crate::error::{DataError, Result};

/// Name of the grid.
pub const CRS: &str = "EPSG:27700";

/// Semi-major axis and squared eccentricity of an ellipsoid.
struct Ellipsoid {
    a: f64,
    e2: f64,
}

impl Ellipsoid {
    const fn new(a: f64, b: f64) -> Self {
        Self {
            a,
            e2: 1.0 - (b * b) / (a * a),
        }
    }

    /// Radius of curvature across the meridian, without a scale.
    fn nu(&self, latitude: f64) -> f64 {
        self.a / (1.0 - self.e2 * latitude.sin().powi(2)).sqrt()
    }

    /// Cartesian coordinates of a point on the ellipsoid (equations B1 to B5); radians.
    fn cartesian(&self, latitude: f64, longitude: f64) -> [f64; 3] {
        let nu = self.nu(latitude);
        [
            nu * latitude.cos() * longitude.cos(),
            nu * latitude.cos() * longitude.sin(),
            (1.0 - self.e2) * nu * latitude.sin(),
        ]
    }

    /// Latitude and longitude in radians of a point near the ellipsoid (equations B6 to B8).
    fn geographic(&self, [x, y, z]: [f64; 3]) -> (f64, f64) {
        let p = x.hypot(y);
        let mut latitude = z.atan2(p * (1.0 - self.e2));
        // Each round gains more than two digits near the surface.
        for _ in 0..10 {
            latitude = (z + self.e2 * self.nu(latitude) * latitude.sin()).atan2(p);
        }
        (latitude, y.atan2(x))
    }
}

const AIRY: Ellipsoid = Ellipsoid::new(6_377_563.396, 6_356_256.909);
const WGS84: Ellipsoid = Ellipsoid::new(6_378_137.0, 6_356_752.314_245);

/// Scale on the central meridian, true origin (radians) and the easting and northing it has.
const F0: f64 = 0.999_601_271_7;
const LATITUDE_0: f64 = 49.0 * std::f64::consts::PI / 180.0;
const LONGITUDE_0: f64 = -2.0 * std::f64::consts::PI / 180.0;
const EASTING_0: f64 = 400_000.0;
const NORTHING_0: f64 = -100_000.0;

/// Helmert transformation WGS84 → OSGB36 (section 6.6): translations in metres, scale in parts per million, rotations in seconds
/// of arc.
const TRANSLATION: [f64; 3] = [-446.448, 125.157, -542.060];
const SCALE_PPM: f64 = 20.4894;
const ROTATION: [f64; 3] = [-0.1502, -0.2470, -0.8421];

/// Easting and northing in metres of a latitude and longitude (WGS84, degrees): within 10 m over Great Britain.
pub fn from_lat_lon(latitude: f64, longitude: f64) -> (f64, f64) {
    let point = WGS84.cartesian(latitude.to_radians(), longitude.to_radians());
    let (latitude, longitude) = AIRY.geographic(helmert(point, 1.0));
    project(latitude, longitude)
}

/// Latitude and longitude (WGS84, degrees) of an easting and northing in metres: within 10 m over Great Britain.
pub fn to_lat_lon(easting: f64, northing: f64) -> (f64, f64) {
    let (latitude, longitude) = unproject(easting, northing);
    let point = helmert(AIRY.cartesian(latitude, longitude), -1.0);
    let (latitude, longitude) = WGS84.geographic(point);
    (latitude.to_degrees(), longitude.to_degrees())
}

/// The transformation (`sign` 1), or its inverse (−1): its terms are so small that their squares are below a millimetre.
fn helmert([x, y, z]: [f64; 3], sign: f64) -> [f64; 3] {
    let s = 1.0 + sign * SCALE_PPM * 1e-6;
    let [rx, ry, rz] = ROTATION.map(|seconds| sign * (seconds / 3600.0).to_radians());
    let [tx, ty, tz] = TRANSLATION.map(|metres| sign * metres);
    [
        tx + x * s - y * rz + z * ry,
        ty + x * rz + y * s - z * rx,
        tz - x * ry + y * rx + z * s,
    ]
}

/// Length of the meridian from the true origin to a latitude (equation C3).
fn meridian(latitude: f64) -> f64 {
    let b = AIRY.a * (1.0 - AIRY.e2).sqrt();
    let n = (AIRY.a - b) / (AIRY.a + b);
    let (n2, n3) = (n * n, n * n * n);
    let (difference, sum) = (latitude - LATITUDE_0, latitude + LATITUDE_0);
    b * F0
        * ((1.0 + n + 1.25 * n2 + 1.25 * n3) * difference
            - (3.0 * n + 3.0 * n2 + 2.625 * n3) * difference.sin() * sum.cos()
            + (1.875 * n2 + 1.875 * n3) * (2.0 * difference).sin() * (2.0 * sum).cos()
            - 35.0 / 24.0 * n3 * (3.0 * difference).sin() * (3.0 * sum).cos())
}

/// ν, ρ and η² at a latitude, with the scale of the projection (equation C2).
fn curvature(latitude: f64) -> (f64, f64, f64) {
    let nu = F0 * AIRY.nu(latitude);
    let rho = nu * (1.0 - AIRY.e2) / (1.0 - AIRY.e2 * latitude.sin().powi(2));
    (nu, rho, nu / rho - 1.0)
}

/// OSGB36 latitude and longitude in radians → easting and northing (annex C.1).
fn project(latitude: f64, longitude: f64) -> (f64, f64) {
    let (nu, rho, eta2) = curvature(latitude);
    let (sin, cos) = latitude.sin_cos();
    let tan2 = latitude.tan().powi(2);
    let tan4 = tan2 * tan2;
    let i = meridian(latitude) + NORTHING_0;
    let ii = nu / 2.0 * sin * cos;
    let iii = nu / 24.0 * sin * cos.powi(3) * (5.0 - tan2 + 9.0 * eta2);
    let iiia = nu / 720.0 * sin * cos.powi(5) * (61.0 - 58.0 * tan2 + tan4);
    let iv = nu * cos;
    let v = nu / 6.0 * cos.powi(3) * (nu / rho - tan2);
    let vi =
        nu / 120.0 * cos.powi(5) * (5.0 - 18.0 * tan2 + tan4 + 14.0 * eta2 - 58.0 * tan2 * eta2);
    let d = longitude - LONGITUDE_0;
    (
        EASTING_0 + iv * d + v * d.powi(3) + vi * d.powi(5),
        i + ii * d.powi(2) + iii * d.powi(4) + iiia * d.powi(6),
    )
}

/// Easting and northing → OSGB36 latitude and longitude in radians (annex C.2).
fn unproject(easting: f64, northing: f64) -> (f64, f64) {
    let mut latitude = LATITUDE_0;
    // The guide stops at 0.01 mm; three to five rounds in Great Britain, bounded for numbers from elsewhere.
    for _ in 0..50 {
        let rest = northing - NORTHING_0 - meridian(latitude);
        latitude += rest / (AIRY.a * F0);
        if rest.abs() < 1e-5 {
            break;
        }
    }
    let (nu, rho, eta2) = curvature(latitude);
    let (tan, cos) = (latitude.tan(), latitude.cos());
    let tan2 = tan * tan;
    let tan4 = tan2 * tan2;
    let vii = tan / (2.0 * rho * nu);
    let viii = tan / (24.0 * rho * nu.powi(3)) * (5.0 + 3.0 * tan2 + eta2 - 9.0 * tan2 * eta2);
    let ix = tan / (720.0 * rho * nu.powi(5)) * (61.0 + 90.0 * tan2 + 45.0 * tan4);
    let x = 1.0 / (cos * nu);
    let xi = 1.0 / (cos * 6.0 * nu.powi(3)) * (nu / rho + 2.0 * tan2);
    let xii = 1.0 / (cos * 120.0 * nu.powi(5)) * (5.0 + 28.0 * tan2 + 24.0 * tan4);
    let xiia = 1.0 / (cos * 5040.0 * nu.powi(7))
        * (61.0 + 662.0 * tan2 + 1320.0 * tan4 + 720.0 * tan4 * tan2);
    let d = easting - EASTING_0;
    (
        latitude - vii * d.powi(2) + viii * d.powi(4) - ix * d.powi(6),
        LONGITUDE_0 + x * d - xi * d.powi(3) + xii * d.powi(5) - xiia * d.powi(7),
    )
}

/// A box on the grid: either by easting and northing or by latitude and longitude, each from the lower to the higher value.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "BoxKeys")]
pub enum GridBox {
    /// Metres.
    Metres {
        /// From west to east.
        easting: [f64; 2],
        /// From south to north.
        northing: [f64; 2],
    },
    /// Degrees, WGS84.
    Degrees {
        /// From south to north.
        latitude: [f64; 2],
        /// From west to east.
        longitude: [f64; 2],
    },
}

/// A box as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BoxKeys {
    easting: Option<[f64; 2]>,
    northing: Option<[f64; 2]>,
    latitude: Option<[f64; 2]>,
    longitude: Option<[f64; 2]>,
}

impl TryFrom<BoxKeys> for GridBox {
    type Error = &'static str;

    fn try_from(keys: BoxKeys) -> Result<Self, Self::Error> {
        match (keys.easting, keys.northing, keys.latitude, keys.longitude) {
            (Some(easting), Some(northing), None, None) => Ok(Self::Metres { easting, northing }),
            (None, None, Some(latitude), Some(longitude)) => Ok(Self::Degrees {
                latitude,
                longitude,
            }),
            _ => Err("a box has either easting and northing, or latitude and longitude"),
        }
    }
}

impl GridBox {
    /// West, south, east and north in metres: for degrees the smallest box on the grid that holds all of it.
    ///
    /// # Errors
    /// [`DataError::Config`] where a range is empty, or a box in degrees lies outside 49–61° N, 9° W–2.5° E, where the
    /// transformation holds.
    pub fn bounds(&self) -> Result<[f64; 4]> {
        let (x, y) = match self {
            Self::Metres { easting, northing } => (easting, northing),
            Self::Degrees {
                latitude,
                longitude,
            } => (longitude, latitude),
        };
        if !(x[0] < x[1] && y[0] < y[1] && x.iter().chain(y).all(|v| v.is_finite())) {
            return Err(DataError::Config(format!(
                "box {self:?}: ranges must go from the lower to the higher value"
            )));
        }
        let Self::Degrees { .. } = self else {
            return Ok([x[0], y[0], x[1], y[1]]);
        };
        if y[0] < 49.0 || y[1] > 61.0 || x[0] < -9.0 || x[1] > 2.5 {
            return Err(DataError::Config(format!(
                "box {self:?} is not within Great Britain (49 to 61° N, 9° W to 2.5° E)"
            )));
        }
        // Meridians and parallels are curves on the grid, their extremes lie anywhere along them.
        const STEPS: usize = 256;
        let mut bounds = [
            f64::INFINITY,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NEG_INFINITY,
        ];
        for step in 0..=STEPS {
            let share = step as f64 / STEPS as f64;
            let (longitude, latitude) =
                (x[0] + share * (x[1] - x[0]), y[0] + share * (y[1] - y[0]));
            for (latitude, longitude) in [
                (y[0], longitude),
                (y[1], longitude),
                (latitude, x[0]),
                (latitude, x[1]),
            ] {
                let (e, n) = from_lat_lon(latitude, longitude);
                bounds = [
                    bounds[0].min(e),
                    bounds[1].min(n),
                    bounds[2].max(e),
                    bounds[3].max(n),
                ];
            }
        }
        Ok(bounds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn degrees(d: f64, m: f64, s: f64) -> f64 {
        d + m / 60.0 + s / 3600.0
    }

    /// The guide's own example of annex C: 52° 39′ 27.2531″ N, 1° 43′ 4.5177″ E on OSGB36.
    #[test]
    fn projection_of_the_guides_example() {
        let latitude = degrees(52.0, 39.0, 27.2531).to_radians();
        let longitude = degrees(1.0, 43.0, 4.5177).to_radians();
        let (e, n) = project(latitude, longitude);
        assert!(
            (e - 651_409.903).abs() < 0.001 && (n - 313_177.270).abs() < 0.001,
            "{e} {n}"
        );
        let (back_latitude, back_longitude) = unproject(651_409.903, 313_177.270);
        // 0.0001 seconds of arc are 3 mm.
        let second = (1.0_f64 / 3600.0).to_radians();
        assert!((back_latitude - latitude).abs() < 1e-4 * second);
        assert!((back_longitude - longitude).abs() < 1e-4 * second);
    }

    /// The guide's example of annex B: the same point with a height of 24.700 m.
    #[test]
    fn cartesian_coordinates_of_the_guides_example() {
        let latitude = degrees(52.0, 39.0, 27.2531).to_radians();
        let longitude = degrees(1.0, 43.0, 4.5177).to_radians();
        let up = [
            latitude.cos() * longitude.cos(),
            latitude.cos() * longitude.sin(),
            latitude.sin(),
        ];
        let point = AIRY.cartesian(latitude, longitude);
        for ((x, up), expected) in
            point
                .into_iter()
                .zip(up)
                .zip([3_874_938.850, 116_218.624, 5_047_168.207])
        {
            assert!((x + 24.7 * up - expected).abs() < 0.002, "{x} {expected}");
        }
    }

    /// OSTN15 test points of Ordnance Survey (ETRS89 latitude and longitude; easting and northing), TP01 to TP40: from the Scilly
    /// Isles to Shetland, St Kilda to Norfolk. OSTN15 is the definition of the grid, good to centimetres.
    const POINTS: [[f64; 4]; 40] = [
        [49.92226393730, -6.29977752014, 91_492.146, 11_318.804],
        [49.96006137820, -5.20304609998, 170_370.718, 11_572.405],
        [50.43885825610, -4.10864563561, 250_359.811, 62_016.569],
        [50.57563665000, -1.29782277240, 449_816.371, 75_335.861],
        [50.93127937910, -1.45051433700, 438_710.920, 114_792.250],
        [51.40078220140, -3.55128349240, 292_184.870, 168_003.465],
        [51.37447025550, 1.44454730409, 639_821.835, 169_565.858],
        [51.42754743020, -2.54407618349, 362_269.991, 169_978.690],
        [51.48936564950, -0.11992557180, 530_624.974, 178_388.464],
        [51.85890896400, -4.30852476960, 241_124.584, 220_332.641],
        [51.89436637350, 0.89724327012, 599_445.590, 225_722.826],
        [52.25529381630, -2.15458614387, 389_544.190, 261_912.153],
        [52.25160951230, -0.91248956970, 474_335.969, 262_047.755],
        [52.75136687170, 0.40153547065, 562_180.547, 319_784.995],
        [52.96219109410, -1.19747655922, 454_002.834, 340_834.943],
        [53.34480280190, -2.64049320810, 357_455.843, 383_290.436],
        [53.41628516040, -4.28918069756, 247_958.971, 393_492.909],
        [53.41630925420, -4.28917792869, 247_959.241, 393_495.583],
        [53.77911025760, -3.04045490691, 331_534.564, 431_920.794],
        [53.80021519630, -1.66379168242, 422_242.186, 433_818.701],
        [54.08666318080, -4.63452168212, 227_778.330, 468_847.388],
        [54.11685144290, -0.07773133187, 525_745.670, 470_703.214],
        [54.32919541010, -4.38849118133, 244_780.636, 495_254.887],
        [54.89542340420, -2.93827741149, 339_921.145, 556_034.761],
        [54.97912273660, -1.61657685184, 424_639.355, 565_012.703],
        [55.85399952950, -4.29649016251, 256_340.925, 664_697.269],
        [55.92478265510, -3.29479219337, 319_188.434, 670_947.534],
        [57.00606696050, -5.82836691850, 167_634.202, 797_067.144],
        [57.13902518960, -2.04856030746, 397_160.491, 805_349.736],
        [57.48625000720, -4.21926398555, 267_056.768, 846_176.972],
        [57.81351838410, -8.57854456076, 9_587.909, 899_448.996],
        [58.21262247180, -7.59255560556, 71_713.131, 938_516.404],
        [58.51560361300, -6.26091455533, 151_968.652, 966_483.780],
        [58.58120461280, -3.72631022121, 299_721.891, 967_202.992],
        [59.03743871190, -3.21454001115, 330_398.323, 1_017_347.016],
        [59.09335035320, -4.41757674598, 261_596.778, 1_025_447.602],
        [59.09671617400, -5.82799339844, 180_862.461, 1_029_604.114],
        [59.53470794490, -1.62516966058, 421_300.525, 1_072_147.239],
        [59.85409913890, -1.27486910356, 440_725.073, 1_107_878.448],
        [60.13308091660, -2.07382822798, 395_999.668, 1_138_728.951],
    ];

    #[test]
    fn all_of_great_britain_is_within_10_m_of_ostn15() {
        let mut farthest = 0.0_f64;
        for [latitude, longitude, easting, northing] in POINTS {
            let (e, n) = from_lat_lon(latitude, longitude);
            farthest = farthest.max((e - easting).hypot(n - northing));
            let (back_latitude, back_longitude) = to_lat_lon(easting, northing);
            let metres = 111_000.0;
            let south_north = (back_latitude - latitude) * metres;
            let west_east = (back_longitude - longitude) * metres * latitude.to_radians().cos();
            farthest = farthest.max(south_north.hypot(west_east));
            let (latitude_2, longitude_2) = to_lat_lon(e, n);
            // The inverse Helmert transformation leaves out squares of its terms: millimetres.
            assert!((latitude_2 - latitude).abs() * metres < 0.01);
            assert!((longitude_2 - longitude).abs() * metres < 0.01);
        }
        assert!(farthest < 10.0, "{farthest}");
    }

    #[test]
    fn boxes_in_degrees_become_the_smallest_box_on_the_grid() {
        let degrees = GridBox::Degrees {
            latitude: [50.6, 50.75],
            longitude: [-4.8, -4.5],
        };
        let [west, south, east, north] = degrees.bounds().unwrap();
        // West of 2° W the grid's north lies west of true north, so the western edge is the south-western corner's or the
        // north-western's; every corner is inside and each edge touches one.
        let corners = [(50.6, -4.8), (50.6, -4.5), (50.75, -4.8), (50.75, -4.5)];
        let corners = corners.map(|(latitude, longitude)| from_lat_lon(latitude, longitude));
        let e = corners.map(|c| c.0);
        let n = corners.map(|c| c.1);
        assert_eq!(west, e[0].min(e[2]));
        assert_eq!(east, e[1].max(e[3]));
        assert_eq!(north, n[2].max(n[3]));
        assert!(south <= n[0].min(n[1]) && south > n[0].min(n[1]) - 100.0);
        let metres = GridBox::Metres {
            easting: [209_000.0, 215_000.0],
            northing: [89_000.0, 92_000.0],
        };
        assert_eq!(
            metres.bounds().unwrap(),
            [209_000.0, 89_000.0, 215_000.0, 92_000.0]
        );
        for (latitude, longitude) in [([50.75, 50.6], [-4.8, -4.5]), ([40.0, 41.0], [-4.8, -4.5])] {
            let wrong = GridBox::Degrees {
                latitude,
                longitude,
            };
            assert!(wrong.bounds().is_err());
        }
    }
}
