//! The plots of a report, as SVG.

use std::collections::BTreeSet;
use std::ops::Range;

use plotters::prelude::*;

use super::{Material, Report};

/// A curve: its name, and its points over seconds of the plan.
type Curve = (String, Vec<(f64, f64)>);
type Failure = Box<dyn std::error::Error + Send + Sync>;

const SIZE: (u32, u32) = (900, 300);

/// All plots, each with its title.
///
/// # Errors
/// One cannot be drawn.
pub fn draw(report: &Report, material: &Material) -> Result<Vec<(String, String)>, Failure> {
    let seconds = || report.seconds_of_plan.iter().enumerate();
    let of = |name: &str, value: &dyn Fn(&super::Second) -> f64| -> Curve {
        (name.to_owned(), seconds().map(|(at, second)| (at as f64, value(second))).collect())
    };
    let told = |name: &str, value: fn(&super::Percentiles) -> f64| -> Curve {
        let known = seconds().filter(|(_, second)| second.overhead.count > 0);
        (name.to_owned(), known.map(|(at, second)| (at as f64, value(&second.overhead))).collect())
    };
    let latency =
        [told("p50", |p| p.p50_ms), told("p90", |p| p.p90_ms), told("p99", |p| p.p99_ms), told("max", |p| p.max_ms)];
    let rates = [of("planned", &|s| s.planned as f64), of("answered", &|s| s.answered as f64)];
    let at = |at_ms: i64| (at_ms - material.start_ms) as f64 / 1e3;
    let samples = || material.samples.iter().filter(|sample| sample.at_ms >= material.start_ms);
    let lag = samples().filter_map(|sample| Some((at(sample.at_ms), sample.lag? as f64))).collect();
    let waiting = samples().map(|sample| (at(sample.at_ms), sample.waiting as f64)).collect();
    let backlog = [("not taken by the workers".to_owned(), lag), ("not answered".to_owned(), waiting)];
    let names: BTreeSet<&String> = samples().flat_map(|sample| sample.usage.keys()).collect();
    let usage = |value: fn(&crate::load::sampler::Usage) -> f64| -> Vec<Curve> {
        let curve = |name: &&String| {
            let points = samples().filter_map(|s| Some((at(s.at_ms), value(s.usage.get(*name)?)))).collect();
            ((**name).clone(), points)
        };
        names.iter().map(curve).collect()
    };
    let plots = [
        ("Pipeline overhead by planned second (ms)", latency.to_vec(), true),
        ("Messages a second", rates.to_vec(), false),
        ("Backlog: records and messages", backlog.to_vec(), false),
        ("Cores by process", usage(|usage| usage.cores), false),
        ("Memory by process (MB)", usage(|usage| usage.mb), false),
    ];
    plots.into_iter().map(|(title, curves, log)| Ok((title.to_owned(), plot(&curves, log)?))).collect()
}

/// One plot; with `log` its values stand on a logarithmic scale, those below 0.1 at 0.1.
fn plot(curves: &[Curve], log: bool) -> Result<String, Failure> {
    let points = || curves.iter().flat_map(|(_, points)| points);
    let right = points().map(|point| point.0).fold(1.0, f64::max);
    let top = points().map(|point| point.1).fold(1.0, f64::max) * 1.1;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut builder = ChartBuilder::on(&area);
        builder.margin(8).x_label_area_size(28).y_label_area_size(60);
        if log {
            let chart = builder.build_cartesian_2d(0.0..right, (0.1..top.max(10.0)).log_scale())?;
            curves_on(chart, curves, 0.1)?;
        } else {
            let chart = builder.build_cartesian_2d(0.0..right, 0.0..top)?;
            curves_on(chart, curves, 0.0)?;
        }
        area.present()?;
    }
    Ok(svg)
}

fn curves_on<'a, 'b, Y>(
    mut chart: ChartContext<'a, SVGBackend<'b>, Cartesian2d<plotters::coord::types::RangedCoordf64, Y>>,
    curves: &[Curve],
    least: f64,
) -> Result<(), Failure>
where
    'b: 'a,
    Y: Ranged<ValueType = f64> + plotters::coord::ranged1d::ValueFormatter<f64>,
{
    chart.configure_mesh().x_desc("seconds").light_line_style(WHITE.mix(0.0)).draw()?;
    for (number, (name, points)) in curves.iter().enumerate() {
        let colour = Palette99::pick(number).to_rgba();
        let line = points.iter().map(|(x, y)| (*x, y.max(least)));
        chart
            .draw_series(LineSeries::new(line, colour.stroke_width(2)))?
            .label(name.as_str())
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    let legend: Range<usize> = 0..curves.len();
    if !legend.is_empty() {
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .draw()?;
    }
    Ok(())
}
