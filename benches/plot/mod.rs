//! What was measured, as curves in an SVG.

use std::{error::Error, path::Path};

use plotters::prelude::*;

/// Of one chart; charts stand side by side.
const SIZE: (u32, u32) = (450, 360);
/// Of the curves of one chart, in their order.
const COLORS: [RGBColor; 3] = [BLUE, RED, GREEN];

/// One chart.
pub(crate) struct Chart {
    /// What is measured, with its unit.
    pub(crate) title: &'static str,
    /// Its curves; the name of an only one is not written.
    pub(crate) curves: Vec<Curve>,
}

/// One curve.
pub(crate) struct Curve {
    pub(crate) name: &'static str,
    pub(crate) points: Vec<(f64, f64)>,
}

/// Draws charts that share what is on their x axis.
pub(crate) fn draw(path: &Path, of_what: &str, charts: &[Chart]) -> Result<(), Box<dyn Error>> {
    let area = SVGBackend::new(path, (SIZE.0 * charts.len() as u32, SIZE.1)).into_drawing_area();
    area.fill(&WHITE)?;
    for (area, chart) in area.split_evenly((1, charts.len())).iter().zip(charts) {
        draw_one(area, of_what, chart)?;
    }
    area.present()?;
    Ok(())
}

fn draw_one(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    of_what: &str,
    chart: &Chart,
) -> Result<(), Box<dyn Error>> {
    let all = || chart.curves.iter().flat_map(|curve| &curve.points);
    let most = |of: fn(&(f64, f64)) -> f64| all().map(of).fold(1.0, f64::max);
    let mut on = ChartBuilder::on(area)
        .caption(chart.title, ("sans-serif", 16))
        .margin(12)
        .x_label_area_size(32)
        .y_label_area_size(44)
        .build_cartesian_2d(0.0..most(|point| point.0), 0.0..most(|point| point.1) * 1.1)?;
    on.configure_mesh().x_desc(of_what).x_label_formatter(&|x| format!("{x:.0}")).light_line_style(WHITE).draw()?;
    let is_only = chart.curves.len() == 1;
    for (Curve { name, points }, color) in chart.curves.iter().zip(COLORS.into_iter().cycle()) {
        let line = on.draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)).point_size(3))?;
        if !is_only {
            line.label(*name).legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color));
        }
    }
    if !is_only {
        on.configure_series_labels().border_style(BLACK).background_style(WHITE).draw()?;
    }
    Ok(())
}
