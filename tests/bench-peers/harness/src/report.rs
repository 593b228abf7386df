//! Figures for people and for programs.

use std::{path::Path, time::Duration};

use serde_json::json;

use crate::{load::Figures, table::Measured};

/// Middle, and the quarters around it.
pub(crate) fn quartiles(values: &[f64]) -> [f64; 3] {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |part: f64| {
        let place = part * (sorted.len() - 1) as f64;
        let (low, high) = (
            sorted[place.floor() as usize],
            sorted[place.ceil() as usize],
        );
        low + (high - low) * place.fract()
    };
    [at(0.25), at(0.5), at(0.75)]
}

fn wall(figures: &Figures) -> f64 {
    figures.requests as f64 / figures.seconds
}

/// Requests per second of CPU that server and client used together.
fn per_cpu(figures: &Figures) -> f64 {
    figures.requests as f64 / (figures.client_cpu + figures.server_cpu)
}

/// One row, as it comes.
pub(crate) fn print(measured: &Measured) {
    let base = &measured.outcomes[0];
    println!("{}", measured.name);
    for outcome in &measured.outcomes {
        let ratio = |of: fn(&Figures) -> f64| {
            let ratios: Vec<f64> = outcome
                .rounds
                .iter()
                .zip(&base.rounds)
                .map(|(own, base)| of(own) / of(base))
                .collect();
            quartiles(&ratios)
        };
        let rates: Vec<f64> = outcome.rounds.iter().map(wall).collect();
        let cpu_rates: Vec<f64> = outcome.rounds.iter().map(per_cpu).collect();
        let [w1, w, w3] = ratio(wall);
        let [c1, c, c3] = ratio(per_cpu);
        let others: f64 = outcome
            .rounds
            .iter()
            .map(|f| 1.0 - (f.client_cpu + f.server_cpu) / f.busy)
            .sum::<f64>()
            / outcome.rounds.len() as f64;
        let server: f64 = outcome
            .rounds
            .iter()
            .map(|f| f.server_cpu / f.requests as f64)
            .sum::<f64>()
            / outcome.rounds.len() as f64;
        println!(
            "  {:<8} wall {:>10.1}/s {w:.2} [{w1:.2} {w3:.2}]  cpu {:>10.1}/s {c:.2} [{c1:.2} {c3:.2}]  \
             server {:.2} µs/request  others {:.0} %",
            outcome.side,
            quartiles(&rates)[1],
            quartiles(&cpu_rates)[1],
            server * 1e6,
            others * 100.0,
        );
    }
}

/// Each side's ratio to the first one: by the clock and by CPU time.
fn ratios(measured: &Measured, side: usize) -> [[f64; 3]; 2] {
    let rounds = measured.outcomes[side]
        .rounds
        .iter()
        .zip(&measured.outcomes[0].rounds);
    [wall, per_cpu].map(|of: fn(&Figures) -> f64| {
        let ratios: Vec<f64> = rounds
            .clone()
            .map(|(own, base)| of(own) / of(base))
            .collect();
        quartiles(&ratios)
    })
}

/// Share of the CPUs that neither server nor client used.
fn others(measured: &Measured) -> f64 {
    let all = || measured.outcomes.iter().flat_map(|outcome| &outcome.rounds);
    let own: f64 = all().map(|f| f.client_cpu + f.server_cpu).sum();
    1.0 - own / all().map(|f| f.busy).sum::<f64>()
}

/// Which of the two tables: servers, or clients.
#[derive(Clone, Copy)]
pub(crate) enum Report {
    Servers,
    Clients,
}

impl Report {
    /// What `cargo xtask bench` calls it.
    fn command(self) -> &'static str {
        match self {
            Self::Servers => "peers",
            Self::Clients => "fetches",
        }
    }

    /// What its files are called.
    fn stem(self) -> &'static str {
        match self {
            Self::Servers => "benchmarks",
            Self::Clients => "benchmarks-fetch",
        }
    }

    /// What the last column but one shows the cost of.
    fn cost(self) -> (&'static str, fn(&Figures) -> f64) {
        match self {
            Self::Servers => ("server", |figures| figures.server_cpu),
            Self::Clients => ("client", |figures| figures.client_cpu),
        }
    }
}

/// Writes the figures of every round and a chart into `out`, and the table into its `BENCHMARKS.md`.
pub(crate) fn write(
    out: &Path,
    which: Report,
    measured: &[Measured],
    rounds: u64,
    time: Duration,
) -> Result<(), String> {
    let rows: Vec<_> = measured
        .iter()
        .map(|row| {
            let sides: Vec<_> = row
                .outcomes
                .iter()
                .map(|outcome| {
                    let rounds: Vec<_> = outcome
                        .rounds
                        .iter()
                        .map(|f| {
                            json!({"requests": f.requests, "seconds": f.seconds,
                                   "client_cpu": f.client_cpu, "server_cpu": f.server_cpu,
                                   "busy": f.busy})
                        })
                        .collect();
                    json!({"side": outcome.side, "rounds": rounds})
                })
                .collect();
            json!({"work": row.name, "two_cpus": row.two_cpus, "sides": sides})
        })
        .collect();
    let json = json!({"rounds": rounds, "milliseconds": time.as_millis() as u64, "rows": rows});
    let stem = which.stem();
    put(out, &format!("{stem}.json"), &format!("{json:#}\n"))?;
    let document = std::fs::read_to_string(out.join("BENCHMARKS.md"))
        .map_err(|error| format!("BENCHMARKS.md: {error}"))?;
    put(
        out,
        "BENCHMARKS.md",
        &with_table(&document, which.command(), &markdown(measured, which))?,
    )?;
    put(out, &format!("{stem}.svg"), &chart(measured))
}

pub(crate) fn put(out: &Path, name: &str, text: &str) -> Result<(), String> {
    std::fs::write(out.join(name), text).map_err(|error| format!("{name}: {error}"))
}

/// The document with this table in the place of the one it has from the same benchmark.
pub(crate) fn with_table(document: &str, benchmark: &str, table: &str) -> Result<String, String> {
    let begin = format!(" bench {benchmark} -->\n");
    let place = document.split_once(&begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once("<!-- end of table -->")?;
        Some(format!(
            "{before}{begin}{table}<!-- end of table -->{after}"
        ))
    });
    place.ok_or("BENCHMARKS.md has no place for the table".to_owned())
}

fn markdown(measured: &[Measured], which: Report) -> String {
    let (whose, cost) = which.cost();
    let mut text = format!(
        "| work | side | requests/s | ratio by the clock | ratio by CPU time | {whose}, µs of CPU per \
         request | others' share |\n| --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for row in measured {
        for (side, outcome) in row.outcomes.iter().enumerate() {
            let [[w1, w, w3], [c1, c, c3]] = ratios(row, side);
            let rates: Vec<f64> = outcome.rounds.iter().map(wall).collect();
            let costs: Vec<f64> = outcome
                .rounds
                .iter()
                .map(|f| cost(f) / f.requests as f64 * 1e6)
                .collect();
            text += &format!(
                "| {} | {} | {:.1} | {w:.2} ({w1:.2}–{w3:.2}) | {c:.2} ({c1:.2}–{c3:.2}) | {:.1} | \
                 {:.0} % |\n",
                row.name,
                outcome.side,
                quartiles(&rates)[1],
                quartiles(&costs)[1],
                others(row) * 100.0,
            );
        }
    }
    text
}

/// Bars of the ratios by CPU time, with the quarters around the middle as a line.
fn chart(measured: &[Measured]) -> String {
    const LEFT: f64 = 270.0;
    const UNIT: f64 = 160.0;
    let colours = [
        "#8a8f98", "#2f6fb0", "#67a3d9", "#c98a2b", "#5d9e5a", "#a86bb5", "#b5615c",
    ];
    let mut bars = String::new();
    let mut y = 10.0;
    for row in measured {
        for (side, outcome) in row.outcomes.iter().enumerate() {
            let [_, [low, middle, high]] = ratios(row, side);
            let label = if side == 0 { row.name.as_str() } else { "" };
            bars += &format!(
                "<text x=\"8\" y=\"{0}\">{label}</text><text x=\"190\" y=\"{0}\">{1}</text>\
                 <rect x=\"{LEFT}\" y=\"{y}\" width=\"{2:.1}\" height=\"12\" fill=\"{3}\"/>\
                 <path d=\"M{4:.1} {5}H{6:.1}\" stroke=\"black\"/>\
                 <text x=\"{7:.1}\" y=\"{0}\">{middle:.2}</text>\n",
                y + 10.0,
                outcome.side,
                middle * UNIT,
                colours[side % colours.len()],
                LEFT + low * UNIT,
                y + 6.0,
                LEFT + high * UNIT,
                LEFT + high * UNIT + 6.0,
            );
            y += 14.0;
        }
        y += 8.0;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"760\" height=\"{}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{bars}</svg>\n",
        y + 4.0
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quarters() {
        assert_eq!(quartiles(&[4.0, 1.0, 3.0, 2.0, 5.0]), [2.0, 3.0, 4.0]);
        assert_eq!(quartiles(&[1.0, 2.0]), [1.25, 1.5, 1.75]);
    }

    #[test]
    fn a_table_replaces_the_one_before() {
        let place = |name: &str, text: &str| {
            format!("<!-- by bench {name} -->\n{text}\n<!-- end of table -->\nb\n")
        };
        let document = place("peers", "old") + &place("others", "old");
        let expected = place("peers", "old") + &place("others", "new");
        let written = with_table(&document, "others", "new\n");
        assert_eq!(written.as_deref(), Ok(&*expected));
        assert!(with_table("nothing", "peers", "new").is_err());
    }
}
