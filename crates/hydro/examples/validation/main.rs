//! Computes the flows with a known answer and writes docs/validation.md with its pictures:
//!
//!     cargo run --release -p pluvial-hydro --example validation

use std::fmt::Write;
use std::path::Path;
use std::{fs, io};

// Each case gives what the tests assert and what the page shows.
#[allow(dead_code)]
#[path = "../../tests/cases/mod.rs"]
mod cases;
mod plot;

use cases::{conservation, dam_break, depressions, front, macdonald, plane, thacker};
use front::Equations;
use plot::{Curve, Style};

/// The page as it grows: the rows of its table, its sections, its pictures.
#[derive(Default)]
struct Page {
    rows: String,
    sections: String,
    pictures: Vec<(&'static str, String)>,
}

impl Page {
    /// A row of the table. A case without a limit is shown for what it says about the scheme.
    fn row(&mut self, case: &str, quantity: &str, limit: &str, measured: &str) {
        let _ = writeln!(self.rows, "| {case} | {quantity} | {limit} | {measured} |");
    }

    fn section(&mut self, title: &str, text: &str) {
        let _ = writeln!(self.sections, "\n## {title}\n\n{}", text.trim_end());
    }

    fn picture(&mut self, name: &'static str, caption: &str, svg: String) {
        let _ = write!(
            self.sections,
            "\n![{caption}](images/validation/{name}.svg)\n\n*{caption}*\n"
        );
        self.pictures.push((name, svg));
    }
}

fn main() -> io::Result<()> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let mut page = Page::default();
    for (name, case) in [
        ("conservation", conservation as fn(&mut Page)),
        ("wetting front", wetting_front),
        ("rain on a plane", rain_on_a_plane),
        ("MacDonald's channels", channels),
        ("Thacker's basin", basin),
        ("dam breaks", dam_breaks),
        ("depressions", filling),
    ] {
        eprintln!("{name}");
        case(&mut page);
    }
    let pictures = docs.join("images/validation");
    fs::create_dir_all(&pictures)?;
    for (name, svg) in &page.pictures {
        write(&pictures.join(format!("{name}.svg")), svg)?;
    }
    let (rows, sections) = (&page.rows, &page.sections);
    write(
        &docs.join("validation.md"),
        &format!("{INTRODUCTION}{rows}{LIMITS}{sections}{GLASGOW}"),
    )
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let partial = path.with_extension("tmp");
    fs::write(&partial, text)?;
    fs::rename(&partial, path)
}

const INTRODUCTION: &str = "\
# The flood solver against known answers

Every number and picture here comes from one command, and `crates/hydro/tests/validation.rs` asserts the limits on the same cases:

    cargo run --release -p pluvial-hydro --example validation
    cargo test --release -p pluvial-hydro

The settings are the defaults throughout (Courant number 0.7, Froude limit 1, dry below 0.1 mm). What the published label-maker
computes, and how this solver differs from it on real terrain, is in [boscastle.md](boscastle.md).

| case | quantity | limit | measured |
|---|---|---|---|
";

const LIMITS: &str = "
## Known limits of the scheme

The local inertial scheme leaves the advection term of the momentum equation out. The cases below separate what that does from what the
grid does, by comparing also with exact solutions of the equations without the term; to these the results converge, but for bores.

* Where the Froude number is small, as in most floods on plains, the term does not matter. It is of the relative size Fr².
* Depths of near-critical steady flow are off by the centimetres that MacDonald's channels show, on any grid.
* The front of a dam break without friction moves at about 0.6 of √(g h) instead of 2, as a bore. With a floodplain's friction it is where it
  should be after ten minutes, and the depths behind it too.
* Water level and discharge on staggered faces do not conserve momentum across a bore: there a few percent remain on the finest grids, even
  against the equations without advection.
* Large free oscillations without friction are damped, most at a moving shore; their period is right.
* Supercritical flow is capped at the Froude limit and not resolved.
* The depth of flow at a face is that of the upstream cell: the error of the grid is of the first order in the cell size.
* A cell that is fed beside a wall stands too high while it is fed, since the wall's discharge of 0 enters the smoothing of its outflow (see
  MacDonald's channels for the size); its neighbours do not.
";

const GLASGOW: &str = "
## UK EA test 8A is not here

Test 8A (rain and a point inflow on streets in Glasgow) needs its 2 m raster, its map of roughness and its hydrographs. The text of the report
does not give them, this repository does not have them, and nothing synthetic could stand for them. For whoever has them: the peaks published for
LISFLOOD-FP at the points 1 to 9 are 0.567, 0.211, 0.709, 0.181, 0.274, 0.061, 0.275, 0.093 and 0.173 m, and Itzi comes within a mean absolute
error of 0.04 m.
";

/// A number of any size with two digits.
fn short(value: f64) -> String {
    if value == 0.0 {
        "0".to_owned()
    } else {
        format!("{value:.1e}")
    }
}

fn percent(value: f64) -> String {
    format!("{:.1} %", 100.0 * value)
}

fn columns<const N: usize>(
    rows: &[[f64; N]],
    x: usize,
    y: usize,
) -> impl Iterator<Item = [f64; 2]> {
    rows.iter().map(move |row| [row[x], row[y]])
}

fn conservation(page: &mut Page) {
    let lake = conservation::lake_at_rest();
    page.row(
        "Lake at rest, 1 h",
        "largest change of a depth; largest discharge",
        "round-off: 1e-10 m; 1e-9 m²/s",
        &format!(
            "{} m; {} m²/s",
            short(lake.change_m),
            short(lake.discharge_m2_per_s)
        ),
    );
    page.row(
        "Mirrored and turned terrain",
        "largest difference of a depth between 8 orientations",
        "1e-12 m",
        &format!("{} m", short(conservation::asymmetry_m())),
    );
    let mut table = "| slope | rain gone over the edge | still in pits | cells under 1 mm or more, at most → at the end | mass error |\n\
        |---|---|---|---|---|\n"
        .to_owned();
    let mut worst: f64 = 0.0;
    for slope in conservation::SLOPES {
        let day = conservation::day_on_slope(slope);
        worst = worst.max(day.mass_error);
        let _ = writeln!(
            table,
            "| {:.0} % | {} | {} | {} → {} | {} |",
            100.0 * day.slope,
            percent(day.outflow),
            percent(day.stored),
            day.wet_cells[0],
            day.wet_cells[1],
            short(day.mass_error)
        );
    }
    page.row(
        "24 h on slopes of 0 to 100 %",
        "relative mass error",
        "1e-10",
        &short(worst),
    );
    page.section(
        "Conservation",
        &format!(
            "The lake is up to {:.1} m deep, with islands, 1000 m above the sea. The mass error is that of a day on a rough plane of 31 × 47 cells of \
             20 m: three hours of heavy rain, free outflow, 21 dry hours. `tests/mass.rs` and `tests/symmetry.rs` have more: cells outside, \
             infiltration, levels and inflows at the edge.\n\n{table}",
            lake.deepest_m
        ),
    );
}

fn wetting_front(page: &mut Page) {
    let published = front::run(Equations::ShallowWater, 0.01, 25.0);
    page.row(
        "Moving wetting front (Hunter et al. 2005)",
        "RMSE over the wet cells after 500 s, n = 0.01, u = 0.4 m/s, 25 m",
        "0.02 m",
        &format!("{:.4} m", published.rmse_m),
    );
    let kinds = [
        ("n = 0.01", Equations::ShallowWater, 0.01),
        (
            "n = 0.01, without advection",
            Equations::WithoutAdvection,
            0.01,
        ),
        ("n = 0.1", Equations::ShallowWater, 0.1),
    ];
    let errors = kinds.map(|(_, equations, manning)| {
        front::CELL_SIZES_M.map(|size| front::run(equations, manning, size).rmse_m)
    });
    let mut table = format!(
        "| cell size | {} |\n|---|---|---|---|\n",
        kinds.map(|kind| format!("RMSE, {}", kind.0)).join(" | ")
    );
    for (i, size) in front::CELL_SIZES_M.iter().enumerate() {
        let cells = errors.map(|errors| {
            let order = if i > 0 {
                let order = format!("{:.2}", (errors[i - 1] / errors[i]).log2());
                format!(" (order {})", order.replace('-', "−"))
            } else {
                String::new()
            };
            format!("{:.4} m{order}", errors[i])
        });
        let _ = writeln!(table, "| {size} m | {} |", cells.join(" | "));
    }
    page.section(
        "Moving wetting front",
        &format!(
            "A level at the western edge drives a front at the constant speed u over a flat bed (Hunter et al. 2005, Adv. Water Resour. 28; \
             Bates et al. 2010, J. Hydrol. 387). With n = 0.01 the water at the front is so thin that its Froude number exceeds 1 below 1.6 cm: \
             the equations without advection have another front there, a bore of 2 u²/g = 3.3 cm. The error against Hunter's solution is \
             smallest where the grid hides the difference and grows to it on fine grids; against the solution without advection it falls with \
             the cell size, at the order of about ½ that a jump allows. With n = 0.1 the water is seven times as deep, the two solutions are \
             close, and the error against Hunter's falls as it should.\n\n{table}"
        ),
    );
    let fine = front::run(Equations::WithoutAdvection, 0.01, 3.125);
    page.picture(
        "front",
        "Wetting front after 500 s, n = 0.01: Hunter's solution on 25 m, and the solution without advection on 3.125 m",
        plot::curves(
            "distance, m",
            "depth, m",
            &[
                Curve::new("Hunter et al. 2005", Style::Exact, (0..=600).map(|k| {
                    let x = 0.5 * f64::from(k);
                    [x, front::exact_m(Equations::ShallowWater, 0.01, x, front::DURATION_S)]
                })),
                Curve::new("without advection", Style::Other, (0..=600).map(|k| {
                    let x = 0.5 * f64::from(k);
                    [x, front::exact_m(Equations::WithoutAdvection, 0.01, x, front::DURATION_S)]
                })),
                Curve::new("solver, 25 m", Style::Computed, columns(&published.profile[..12], 0, 1)),
                Curve::new("solver, 3.125 m", Style::Bed, columns(&fine.profile[..96], 0, 1)),
            ],
        ),
    );
}

fn rain_on_a_plane(page: &mut Page) {
    let planes = plane::PLANES.map(plane::run);
    let worst = |f: &dyn Fn(&plane::Plane) -> f64| planes.iter().map(f).fold(0.0, f64::max);
    page.row(
        "Rain on a plane (kinematic wave)",
        "largest relative error of a steady depth, three planes",
        "2 %",
        &percent(worst(&|plane| plane.depth_error)),
    );
    page.row(
        "",
        "time to 95 % of the steady discharge, over the kinematic one",
        "",
        &format!("{:.3}", worst(&|plane| plane.rise_time)),
    );
    let mut table = "| plane | equilibrium after | steady depth, largest error | discharge while it rises, largest error over the steady one |\n\
        |---|---|---|---|\n"
        .to_owned();
    for plane in &planes {
        let _ = writeln!(
            table,
            "| {} m cells, slope {}, n = {}, {} mm/h | {:.1} h | {} | {} |",
            plane.cell_size_m,
            plane.slope,
            plane.manning,
            plane.rain_mm_per_h,
            plane.equilibrium_s / 3600.0,
            percent(plane.depth_error),
            percent(plane.rise_error)
        );
    }
    page.section(
        "Rain on a plane",
        &format!(
            "Steady rain R on a plane of slope S ends in the depth (n R x / √S)^(3/5) at the distance x from the divide, after the time of \
             equilibrium (n L / (√S R^(2/3)))^(3/5); until then the discharge at the foot grows with t^(5/3). The corner at equilibrium is \
             rounded by the grid and by the slope of the water itself, which the kinematic wave leaves out.\n\n{table}"
        ),
    );
    page.picture(
        "plane",
        "Discharge at the foot of the first plane",
        plot::curves(
            "time over time of equilibrium",
            "discharge over steady discharge",
            &[
                Curve::new(
                    "kinematic wave",
                    Style::Exact,
                    columns(&planes[0].hydrograph, 0, 2),
                ),
                Curve::new(
                    "solver",
                    Style::Computed,
                    columns(&planes[0].hydrograph, 0, 1),
                ),
            ],
        ),
    );
}

fn channels(page: &mut Page) {
    let mut table = "| channel | cell size | MAE | MAE against the solution without advection | difference of the two solutions |\n\
        |---|---|---|---|---|\n"
        .to_owned();
    let mut fed = [0.0; 2];
    let mut drawn = Vec::new();
    for (i, (name, rain, limit)) in [
        ("without rain", false, "0.03 m"),
        ("with rain", true, "0.035 m"),
    ]
    .into_iter()
    .enumerate()
    {
        for size in [10.0, 5.0, 2.5] {
            let channel = macdonald::run(rain, size);
            let _ = writeln!(
                table,
                "| {name} | {size} m | {:.4} m | {:.4} m | {:.4} m |",
                channel.mae_m, channel.mae_without_advection_m, channel.advection_m
            );
            if size == 5.0 {
                page.row(
                    &format!("MacDonald's channel {name} (SWASHES)"),
                    "mean absolute error of the depth, 5 m",
                    limit,
                    &format!("{:.4} m", channel.mae_m),
                );
                fed[i] = channel.inflow_cell_m;
                drawn.push(channel);
            }
        }
    }
    page.section(
        "MacDonald's channels",
        &format!(
            "SWASHES (Delestre et al. 2013, arXiv 1110.0288), long channel of 1000 m, subcritical, n = 0.033: the depth \
             (4/g)^(1/3) (1 + ½ exp(−16 (x/1000 − ½)²)) is given and the bed is made for it. Without rain 2 m²/s flow in; with rain 1 m²/s, and 0.001 m/s \
             (3600 mm/h) fall. From a dry bed, after 4 h. The Froude number is {:.2} to {:.2} and {:.2} to {:.2}, so that the missing advection counts: \
             it makes nearly all of the error, and what the grid adds to it halves with the cell size. The fed cell before the channel \
             stands {:.2} m and {:.2} m too high.\n\n{table}",
            drawn[0].froude[0], drawn[0].froude[1], drawn[1].froude[0], drawn[1].froude[1], fed[0], fed[1]
        ),
    );
    for (channel, name, caption) in [
        (
            &drawn[0],
            "channel",
            "MacDonald's channel without rain: depths on cells of 5 m",
        ),
        (
            &drawn[1],
            "channel-rain",
            "MacDonald's channel with rain: depths on cells of 5 m",
        ),
    ] {
        let depth = |column: usize| {
            channel
                .profile
                .iter()
                .map(move |row| [row[0], row[column] - row[1]])
        };
        page.picture(
            name,
            caption,
            plot::curves(
                "distance, m",
                "depth, m",
                &[
                    Curve::new("exact", Style::Exact, depth(3)),
                    Curve::new("solver", Style::Computed, depth(2)),
                    Curve::new("exact without advection", Style::Other, depth(4)),
                ],
            ),
        );
    }
}

fn basin(page: &mut Page) {
    let basins = [0.05, 0.25, 0.5].map(thacker::run);
    page.row(
        "Thacker's basin, without friction",
        "period of a small swing (5 % of the half width), over the exact one",
        "1 ± 0.01 (linear theory without advection)",
        &format!("{:.4}", basins[0].period),
    );
    let mut table = "| swing over the half width | period over the exact one | swing left after 4 periods | mass error |\n|---|---|---|---|\n".to_owned();
    for basin in &basins {
        let _ = writeln!(
            table,
            "| {} | {:.4} | {} | {} |",
            basin.shift,
            basin.period,
            percent(basin.amplitude),
            short(basin.mass_error)
        );
    }
    page.section(
        "Thacker's basin",
        &format!(
            "A planar surface rocks in a parabolic basin 10 m deep and 6 km wide (Thacker 1981, J. Fluid Mech. 107; SWASHES), on cells of 20 m, with the \
             exact period of {:.0} s at any amplitude. Small waves have the same period without advection: ω² = 2 g h₀ / a² follows from the linear \
             equations either way. Large ones keep their period within 2 % but lose their swing: the missing term, and the shore, which advances \
             and retreats over dry ground, take energy. In a real flood friction does so first.\n\n{table}",
            thacker::period_s()
        ),
    );
    page.picture(
        "basin",
        "Centre of mass in Thacker's basin, over the half width, for a swing of 0.25",
        plot::curves(
            "time over period",
            "centre of mass over half width",
            &[
                Curve::new(
                    "Thacker 1981",
                    Style::Exact,
                    columns(&basins[1].swing, 0, 2),
                ),
                Curve::new("solver", Style::Computed, columns(&basins[1].swing, 0, 1)),
            ],
        ),
    );
    page.picture(
        "basin-level",
        "Level in Thacker's basin after half a period, for a swing of 0.25",
        plot::curves(
            "distance from the middle, m",
            "level, m",
            &[
                Curve::new("bed", Style::Bed, columns(&basins[1].profile, 0, 1)),
                Curve::new(
                    "Thacker 1981",
                    Style::Exact,
                    columns(&basins[1].profile, 0, 3),
                ),
                Curve::new("solver", Style::Computed, columns(&basins[1].profile, 0, 2)),
            ],
        ),
    );
}

fn dam_breaks(page: &mut Page) {
    let cases = [
        ("dry bed (Ritter)", dam_break::DRY),
        ("wet bed (Stoker)", dam_break::WET),
        ("dry bed, n = 0.05", dam_break::DRY_ROUGH),
    ]
    .map(|(name, dam)| (name, dam, dam_break::run(dam, 10.0)));
    let mut table = "| dam of 2 m | after | error against shallow water | error without advection | front | front, shallow water | mass error |\n\
        |---|---|---|---|---|---|---|\n"
        .to_owned();
    for (name, dam, flood) in &cases {
        let _ = writeln!(
            table,
            "| {name} | {} s | {} | {} | {} m | {} m | {} |",
            dam.time_s,
            percent(flood.error),
            flood
                .error_without_advection
                .map_or("–".to_owned(), percent),
            flood.front_m[0],
            flood.front_m[1],
            short(flood.mass_error)
        );
    }
    for (name, _, flood) in &cases[..2] {
        page.row(
            &format!("Dam break, {name}, without friction"),
            "error over the change that the break makes: shallow water; without advection",
            "",
            &format!(
                "{}; {}",
                percent(flood.error),
                percent(flood.error_without_advection.unwrap_or(f64::NAN))
            ),
        );
    }
    let rough = &cases[2].2;
    page.row(
        "Dam break, dry bed, n = 0.05, 10 min",
        "front, over that of the shallow water equations; error over the change that the break makes",
        "1 ± 0.05; 10 %",
        &format!("{:.3}; {}", rough.front_m[0] / rough.front_m[1], percent(rough.error)),
    );
    let _ = writeln!(
        table,
        "\n| cell size | dry bed, error without advection | wet bed |\n|---|---|---|"
    );
    for size in [10.0, 5.0, 2.5, 1.25] {
        let errors = [dam_break::DRY, dam_break::WET].map(|dam| {
            dam_break::run(dam, size)
                .error_without_advection
                .map_or(String::new(), percent)
        });
        let _ = writeln!(table, "| {size} m | {} |", errors.join(" | "));
    }
    page.section(
        "Dam breaks",
        &format!(
            "A dam of 2 m on a flat bed vanishes; cells of 10 m. The error is the mean one of the depth over the mean change of the depth that the \
             break makes; the front is where the water is 5 cm deeper than it was. Without friction the exact solutions are Ritter's, Stoker's, and \
             those of the equations without advection, h_t + q_x = 0 and q_t + (g h²/2)_x = 0, which have a rarefaction and a bore in both cases: this \
             is what the solver computes, and it is not what a dam break does. With friction the reference is a finite-volume solution of \
             the shallow water equations (Harten, Lax & van Leer) on cells of 2.5 m, whose own error is {} and {} in the first two cases.\n\n{table}",
            percent(dam_break::reference_error(dam_break::DRY)),
            percent(dam_break::reference_error(dam_break::WET))
        ),
    );
    for (i, name, caption, exact) in [
        (
            0,
            "dam-dry",
            "Dam break on a dry bed without friction, after 100 s",
            "Ritter",
        ),
        (
            1,
            "dam-wet",
            "Dam break on a wet bed without friction, after 100 s",
            "Stoker",
        ),
        (
            2,
            "dam-rough",
            "Dam break on a dry bed with n = 0.05, after 10 minutes",
            "shallow water",
        ),
    ] {
        let profile = &cases[i].2.profile;
        let mut curves = vec![
            Curve::new(exact, Style::Exact, columns(profile, 0, 2)),
            Curve::new("solver", Style::Computed, columns(profile, 0, 1)),
        ];
        if profile[0][3].is_finite() {
            curves.push(Curve::new(
                "exact without advection",
                Style::Other,
                columns(profile, 0, 3),
            ));
        }
        page.picture(
            name,
            caption,
            plot::curves("distance from the dam, m", "depth, m", &curves),
        );
    }
}

fn filling(page: &mut Page) {
    let filling = depressions::run();
    page.row(
        "UK EA test 2, filling of depressions, 48 h",
        "relative mass error; pond above its spill level, at most",
        "1e-12; 0.03 m",
        &format!(
            "{}; {:.3} m",
            short(filling.mass_error),
            filling.above_spill_m
        ),
    );
    let mut table =
        "| depth (spills at), m | west | | | east |\n|---|---|---|---|---|\n".to_owned();
    for (row, name) in ["north", "", "", "south"].into_iter().enumerate() {
        let cells: Vec<_> = (0..4)
            .map(|col| {
                match (filling.depth_m[row][col], filling.spill_m[row][col]) {
                    // The lowest of all has nowhere to spill.
                    (depth, 0.0) => format!("{depth:.3} (–)"),
                    (depth, spill) => format!("{depth:.3} ({spill:.3})"),
                }
            })
            .collect();
        let _ = writeln!(table, "| {name} | {} |", cells.join(" | "));
    }
    page.section(
        "UK EA test 2: filling of floodplain depressions",
        &format!(
            "Benchmarks of the UK Environment Agency (Néelz & Pender 2013, SC120002). Its raster is not in this repository; its text gives a square of \
             2 km with 4 × 4 depressions about 0.5 m deep, of one shape, made by multiplying sinusoids, on a plane that falls 1:1500 to the \
             south and 1:3000 to the east, n = 0.03, cells of 20 m, walls all around, and an inflow of up to 20 m³/s along 100 m south of the north-western \
             corner: 5 minutes up, 76 at the peak, 5 down, 97 200 m³. The bed here is that plane less 0.5 sin²(π x/500) sin²(π y/500), the simplest one \
             that has all of this, so that depths at the report's points cannot be compared to the centimetre. What must hold on any such bed does: \
             the {:.1} m³ are all there, ponds are level to {:.1} mm, none stands more than {:.1} cm above the level where it spills (by \
             a priority flood of the bed, which knows nothing of the solver; the ponds farthest down are still being fed over thin sheets). \
             The two depressions in the north-east (points 15 and 16) stay dry, as they are reported to do in all packages.\n\n{table}",
            filling.stored_m3,
            1000.0 * filling.unevenness_m,
            100.0 * filling.above_spill_m
        ),
    );
    page.picture(
        "depressions",
        "Water of 1 cm or more after 48 h; the inflow in the north-west",
        plot::depths(&filling.depth),
    );
    let names = ["north", "second", "third", "south"];
    let styles = [Style::Exact, Style::Computed, Style::Other, Style::Bed];
    let curves: Vec<_> = (0..4)
        .map(|k| {
            Curve::new(
                names[k],
                styles[k],
                columns(&filling.levels[..=4 * 24], 0, k + 1),
            )
        })
        .collect();
    page.picture(
        "depressions-levels",
        "Levels in the four depressions of the western column during the first day",
        plot::curves("time, h", "level, m", &curves),
    );
}
