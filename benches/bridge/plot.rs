//! The rows as curves.

use std::{error::Error, path::Path};

use plotters::prelude::*;

use crate::figures::Row;

const SIZE: (u32, u32) = (900, 360);

/// Cost and latency over the number of streams, side by side.
pub(crate) fn draw(rows: &[Row], path: &Path) -> Result<(), Box<dyn Error>> {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let halves = area.split_evenly((1, 2));
    let cost = Curve { name: "", color: BLUE, points: points(rows, |row| Some(row.cost() * 1e3)) };
    chart(&halves[0], "ms of a core a second, each stream", &[cost])?;
    let latency = [("median", BLUE, 0.5), ("p95", RED, 0.95)].map(|(name, color, share)| Curve {
        name,
        color,
        points: points(rows, |row| row.latency(share)),
    });
    chart(&halves[1], "latency, ms", &latency)?;
    area.present()?;
    Ok(())
}

struct Curve {
    name: &'static str,
    color: RGBColor,
    points: Vec<(f64, f64)>,
}

fn points(rows: &[Row], value: impl Fn(&Row) -> Option<f64>) -> Vec<(f64, f64)> {
    rows.iter().filter_map(|row| Some((row.count as f64, value(row)?))).collect()
}

fn chart(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    title: &str,
    curves: &[Curve],
) -> Result<(), Box<dyn Error>> {
    let all = || curves.iter().flat_map(|curve| &curve.points);
    let most = |of: fn(&(f64, f64)) -> f64| all().map(of).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 16))
        .margin(12)
        .x_label_area_size(32)
        .y_label_area_size(44)
        .build_cartesian_2d(0.0..most(|point| point.0), 0.0..most(|point| point.1) * 1.1)?;
    chart.configure_mesh().x_desc("streams").light_line_style(WHITE).draw()?;
    for Curve { name, color, points } in curves {
        let color = *color;
        let line = chart.draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)).point_size(3))?;
        if !name.is_empty() {
            line.label(*name).legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color));
        }
    }
    if curves.iter().any(|curve| !curve.name.is_empty()) {
        chart.configure_series_labels().border_style(BLACK).background_style(WHITE).draw()?;
    }
    Ok(())
}
