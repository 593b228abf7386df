//! Tables, figures and charts of how cost grows.

use std::{path::Path, time::Duration};

use serde_json::json;

use crate::{
    growth::{Curve, Line},
    report::{put, quartiles, with_table},
};

/// Writes the figures of every round and the charts into `out`, and a table of each curve into its
/// `BENCHMARKS.md`.
pub(crate) fn write(
    out: &Path,
    curves: &[(&'static str, Curve)],
    rounds: u64,
    time: Duration,
) -> Result<(), String> {
    let all = curves.iter().map(|(name, curve)| {
        let line = |line: &Line| {
            json!({"side": line.side, "measure": line.measure, "values": line.values})
        };
        let lines: Vec<_> = curve.lines.iter().map(line).collect();
        json!({"curve": name, "of": curve.of, "points": curve.points, "lines": lines})
    });
    let json = json!({
        "rounds": rounds,
        "milliseconds": time.as_millis() as u64,
        "curves": all.collect::<Vec<_>>(),
    });
    let mut document = std::fs::read_to_string(out.join("BENCHMARKS.md"))
        .map_err(|error| format!("BENCHMARKS.md: {error}"))?;
    for (name, curve) in curves {
        document = with_table(&document, &format!("growth, {name}"), &markdown(curve))?;
    }
    put(out, "benchmarks-growth.json", &format!("{json:#}\n"))?;
    put(out, "BENCHMARKS.md", &document)?;
    put(out, "benchmarks-growth.svg", &charts(curves))
}

/// A row for each point: the middle, and the quarters around it where they differ from it.
pub(crate) fn markdown(curve: &Curve) -> String {
    let mut text = format!("| {} |", curve.of);
    for line in &curve.lines {
        text += &format!(" {}: {} |", line.side, line.measure);
    }
    text += &format!("\n| --- |{}\n", " --- |".repeat(curve.lines.len()));
    for (index, &point) in curve.points.iter().enumerate() {
        text += &format!("| {} |", label(curve, point));
        for line in &curve.lines {
            let [low, middle, high] = line.quarters(index).map(short);
            text += &match low == middle && middle == high {
                true => format!(" {middle} |"),
                false => format!(" {middle} ({low}–{high}) |"),
            };
        }
        text += "\n";
    }
    text
}

impl Line {
    fn quarters(&self, point: usize) -> [f64; 3] {
        match &self.values[point][..] {
            [] => [f64::NAN; 3],
            values => quartiles(values),
        }
    }
}

/// Three digits, or all before the point; nothing was measured where there is a dash.
fn short(value: f64) -> String {
    if value.is_nan() {
        return "–".to_owned();
    }
    let digits = match value.abs() {
        0.0 => 0,
        value if value < 10.0 => 2,
        value if value < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$}")
}

fn label(curve: &Curve, point: u64) -> String {
    if !curve.in_bytes {
        return point.to_string();
    }
    let power = (point.max(1).ilog2() / 10).min(4);
    let unit = ["B", "KiB", "MiB", "GiB", "TiB"][power as usize];
    format!("{} {unit}", point >> (10 * power))
}

// ----------------------------------------------------------------------------------------- charts

const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 26.0;

/// A chart for each measure, two beside each other.
fn charts(curves: &[(&'static str, Curve)]) -> String {
    let mut panels = Vec::new();
    for (_, curve) in curves {
        let mut measures: Vec<&str> = Vec::new();
        for line in &curve.lines {
            if !measures.contains(&line.measure) {
                measures.push(line.measure);
                panels.push(chart(curve, line.measure));
            }
        }
    }
    let mut drawn = String::new();
    for (index, panel) in panels.iter().enumerate() {
        let (x, y) = ((index % 2) as f64 * WIDTH, (index / 2) as f64 * HEIGHT);
        drawn += &format!("<g transform=\"translate({x} {y})\">\n{panel}</g>\n");
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{drawn}</svg>\n",
        2.0 * WIDTH,
        panels.len().div_ceil(2) as f64 * HEIGHT,
    )
}

/// Middles joined by a line, and the quarters around each. What grows is on a logarithmic axis; the
/// measure is as well where it covers more than two powers of ten, and begins at zero otherwise.
fn chart(curve: &Curve, measure: &str) -> String {
    let lines = || curve.lines.iter().filter(|line| line.measure == measure);
    let all: Vec<f64> = lines()
        .flat_map(|line| (0..curve.points.len()).flat_map(|point| line.quarters(point)))
        .filter(|value| value.is_finite())
        .collect();
    let most = all.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let least = all.iter().copied().fold(most, f64::min);
    let is_logarithmic = least > 0.0 && most / least > 100.0;
    let (bottom, top, ticks) = if is_logarithmic {
        let (low, high) = (least.log10().floor(), most.log10().ceil());
        let ticks = (low as i32..=high as i32).map(|power| 10f64.powi(power));
        (low, high, ticks.collect::<Vec<_>>())
    } else {
        let power = 10f64.powf(most.log10().floor());
        let step = [0.2, 0.5, 1.0, 2.0]
            .map(|part| part * power)
            .into_iter()
            .find(|step| most / step <= 5.5)
            .unwrap_or(2.0 * power);
        let ticks = (0..=(most / step).ceil() as u32).map(|tick| f64::from(tick) * step);
        let ticks = ticks.collect::<Vec<_>>();
        (0.0, ticks.last().copied().unwrap_or(most), ticks)
    };
    let x_of = |point: u64| {
        let log = |point: u64| (point.max(1) as f64).ln();
        let (first, last) = (
            log(curve.points[0]),
            log(curve.points[curve.points.len() - 1]),
        );
        let part = (log(point) - first) / (last - first).max(f64::MIN_POSITIVE);
        LEFT + part * (WIDTH - LEFT - RIGHT)
    };
    let y_of = |value: f64| {
        let value = if is_logarithmic { value.log10() } else { value };
        let part = ((value - bottom) / (top - bottom)).clamp(0.0, 1.0);
        HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)
    };
    let mut drawn = format!(
        "<text x=\"{LEFT}\" y=\"14\" font-weight=\"bold\">{measure}, by {}</text>\n",
        curve.of
    );
    for tick in ticks {
        drawn += &format!(
            "<path d=\"M{LEFT} {0:.1}H{1}\" stroke=\"#ddd\"/><text x=\"{2}\" y=\"{3:.1}\" \
             text-anchor=\"end\">{4}</text>\n",
            y_of(tick),
            WIDTH - RIGHT,
            LEFT - 4.0,
            y_of(tick) + 4.0,
            // As on a ruler: no more digits than the steps need.
            (tick * 1e6).round() / 1e6,
        );
    }
    // Labels that do not run into each other.
    let every = curve.points.len().div_ceil(6);
    for (_, &point) in curve
        .points
        .iter()
        .enumerate()
        .filter(|(n, _)| n % every == 0)
    {
        drawn += &format!(
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
            x_of(point),
            HEIGHT - 10.0,
            label(curve, point)
        );
    }
    let mut legend = LEFT;
    for (number, line) in lines().enumerate() {
        let colour = colour(&line.side, number);
        let mut path = String::new();
        let mut quarters = String::new();
        for (index, &point) in curve.points.iter().enumerate() {
            let [low, middle, high] = line.quarters(index);
            if middle.is_finite() {
                let (x, verb) = (x_of(point), if path.is_empty() { 'M' } else { 'L' });
                path += &format!("{verb}{x:.1} {:.1}", y_of(middle));
                quarters += &format!("M{x:.1} {:.1}V{:.1}", y_of(low), y_of(high));
            }
        }
        drawn += &format!(
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\
             <path d=\"{quarters}\" stroke=\"{colour}\"/>\
             <text x=\"{legend}\" y=\"30\" fill=\"{colour}\">{}</text>\n",
            line.side
        );
        legend += 24.0 + 6.0 * line.side.len() as f64;
    }
    drawn
}

/// The colours of the other charts, for the sides that they have too.
fn colour(side: &str, number: usize) -> &'static str {
    match side {
        "nginx" => "#8a8f98",
        "peer" => "#2f6fb0",
        "peer, sendfile" => "#67a3d9",
        _ => ["#c98a2b", "#5d9e5a", "#a86bb5"][number % 3],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve() -> Curve {
        Curve {
            of: "bytes",
            points: vec![1 << 10, 5 << 40],
            in_bytes: true,
            lines: vec![Line {
                side: "peer".to_owned(),
                measure: "µs",
                values: vec![vec![1.0, 2.0, 3.0], vec![1000.0]],
            }],
        }
    }

    #[test]
    fn a_row_for_each_point() {
        let table =
            "| bytes | peer: µs |\n| --- | --- |\n| 1 KiB | 2.00 (1.50–2.50) |\n| 5 TiB | 1000 |\n";
        assert_eq!(markdown(&curve()), table);
    }

    #[test]
    fn a_chart_has_every_point_on_it() {
        let drawn = chart(&curve(), "µs");
        // From 1 to 1,000, logarithmic: a third of a power of ten up, and at the top.
        let height = HEIGHT - TOP - BOTTOM;
        let first = HEIGHT - BOTTOM - 2f64.log10() / 3.0 * height;
        let path = format!("M{LEFT:.1} {first:.1}L{:.1} {TOP:.1}", WIDTH - RIGHT);
        assert!(drawn.contains(&path), "{path} in {drawn}");
    }
}
