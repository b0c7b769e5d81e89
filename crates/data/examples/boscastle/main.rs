mod case;
use case::*;
fn main() -> Result<()> {
    let case = Case::load(std::path::Path::new(&std::env::args().nth(1).unwrap()))?;
    let (run, runoff) = case.published_scheme(true)?;
    show("compat", &run, &case);
    let worst = run
        .series
        .expected
        .iter()
        .zip(&case.answer.expected)
        .enumerate()
        .map(|(i, (a, b))| ((a - b).abs(), i, *a, *b))
        .fold((0.0, 0, 0.0, 0.0), |m, v| if v.0 > m.0 { v } else { m });
    println!("expected worst {worst:?}");
    for i in 0..12 {
        println!(
            "{} {} {} | {} {}",
            i,
            run.series.expected[i],
            case.answer.expected[i],
            run.series.outflow[i],
            case.answer.outflow[i]
        );
    }
    for i in (400..852).step_by(15) {
        println!(
            "{} {} {} | {} {}",
            i,
            run.series.expected[i],
            case.answer.expected[i],
            run.series.outflow[i],
            case.answer.outflow[i]
        );
    }
    let (run, _) = case.published_scheme(false)?;
    show("exponent", &run, &case);
    show("same runoff", &case.solver(&runoff)?, &case);
    show("rain", &case.solver(&case.rain_mm_per_h)?, &case);
    Ok(())
}
fn show(name: &str, run: &Run, case: &Case) {
    let (a, s) = (&case.answer, &run.series);
    println!(
        "{name}: NSE {} IoU {} {:?} peak {:?} / {:?} steps {} wall {} mass {}",
        nash_sutcliffe(&s.outflow, &a.outflow),
        wet_iou(&s.depth_m, &a.depth_m, 0.1),
        depth_error_m(&s.depth_m, &a.depth_m),
        peak(&s.outflow),
        peak(&a.outflow),
        run.steps,
        run.wall_s,
        run.mass_error
    );
}
