//! Fetching, by us and by others, from the same nginx.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use peer_net::PeerClient;

use crate::{
    content::{self, FILE_BYTES, HANDLE},
    cpu::{self, Threads},
    load::Figures,
    report::{self, Report},
    table::{Measured, Outcome, Server, Words, nginx, rivals, turns},
};

/// `fetch URL OUT [COUNT BYTES PLACES]`: our side. OUT is a file, or `-` for nothing. COUNT ranges
/// of BYTES each are requested one after the other, at other places each time.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let number = |text: &String| text.parse::<u64>().map_err(|error| error.to_string());
    let (url, out, ranges) = match arguments {
        [url, out] => (url, out, vec![(0, None)]),
        [url, out, count, bytes, places] => {
            let (count, bytes, places) = (number(count)?, number(bytes)?, number(places)?);
            let ranges = (0..count).map(|n| (start_of(n, bytes, places), Some(bytes)));
            (url, out, ranges.collect())
        }
        _ => return Err("fetch URL OUT [COUNT BYTES PLACES]".to_owned()),
    };
    let base = url
        .strip_prefix("http://")
        .and_then(|rest| rest.strip_suffix(&format!("/track/{HANDLE}")));
    let base = base.ok_or("the URL is not of the file that is shared")?;
    let mut out: Box<dyn Write> = match out.as_str() {
        "-" => Box::new(io::sink()),
        path => Box::new(File::create(path).map_err(|error| format!("{path}: {error}"))?),
    };
    let client = PeerClient::builder(base, content::TOKEN)
        .build()
        .map_err(|error| error.to_string())?;
    for (start, len) in ranges {
        client
            .fetch_to_writer(HANDLE, start, len, &mut out)
            .map_err(|error| error.to_string())?;
    }
    out.flush().map_err(|error| error.to_string())
}

fn start_of(number: u64, bytes: u64, places: u64) -> u64 {
    (number + 1) * 7919 % places * bytes
}

/// What is fetched, and where to.
struct Row {
    name: &'static str,
    /// Bytes of each of the ranges, and how many; none: the whole file.
    ranges: Option<(u64, u64)>,
    to_file: bool,
}

const ROWS: &[Row] = &[
    Row {
        name: "1 GiB to nothing",
        ranges: None,
        to_file: false,
    },
    Row {
        name: "1 GiB to a file",
        ranges: None,
        to_file: true,
    },
    Row {
        name: "1,000 × 64 KiB",
        ranges: Some((64 << 10, 1000)),
        to_file: false,
    },
];

/// A program that fetches: from the row, the URL and the destination to a command line.
type Prepare = fn(&Row, &str, &Path) -> Result<Command, String>;

const SIDES: &[(&str, Prepare)] = &[
    ("curl", curl),
    ("peer", |row, url, out| {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        Ok(in_words(Command::new(program), "fetch", row, url, out))
    }),
    ("ureq", |row, url, out| {
        Ok(in_words(rivals()?, "fetch-ureq", row, url, out))
    }),
    ("reqwest", |row, url, out| {
        Ok(in_words(rivals()?, "fetch-reqwest", row, url, out))
    }),
];

fn in_words(mut command: Command, part: &str, row: &Row, url: &str, out: &Path) -> Command {
    command.args([part, url]).arg(out);
    if let Some((bytes, count)) = row.ranges {
        let words = [count, bytes, FILE_BYTES / bytes].map(|number| number.to_string());
        command.args(words);
    }
    command
}

/// curl, with all its requests in one process. Of the file `-` it makes nothing.
fn curl(row: &Row, url: &str, out: &Path) -> Result<Command, String> {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--fail"]);
    let path = if out == Path::new("-") {
        Path::new("/dev/null")
    } else {
        out
    };
    let Some((bytes, count)) = row.ranges else {
        command.arg("--output").arg(path).arg(url);
        return Ok(command);
    };
    for number in 0..count {
        let start = start_of(number, bytes, FILE_BYTES / bytes);
        if number > 0 {
            command.args(["--next", "--silent", "--show-error", "--fail"]);
        }
        command
            .arg("--range")
            .arg(format!("{start}-{}", start + bytes - 1));
        command.arg("--output").arg(path).arg(url);
    }
    Ok(command)
}

/// `fetches [rounds=7] [rows=TEXT] [sides=TEXT] [scratch=DIR] [out=DIR]`
pub(crate) fn table(arguments: &[String]) -> Result<(), String> {
    let words = Words(arguments);
    let rounds = words.number("rounds", 7)?;
    let place = words.place()?;
    cpu::pin(&[0])?;
    let server = nginx(&place)?;
    let destination = place.scratch.join("fetched");
    let mut measured = Vec::new();
    for row in ROWS {
        if !words.wants("rows", row.name) {
            continue;
        }
        let mut sides = Vec::new();
        let mut outcomes = Vec::new();
        for (name, prepare) in SIDES {
            if *name != "curl" && !words.wants("sides", name) {
                continue;
            }
            if let Err(reason) = verify(row, *prepare, &server, &destination) {
                eprintln!("SKIPPED {name}, {}: {reason}", row.name);
                continue;
            }
            sides.push(*prepare);
            outcomes.push(Outcome {
                side: (*name).to_owned(),
                rounds: Vec::new(),
            });
        }
        for round in 0..rounds {
            for index in turns(round, sides.len()) {
                let out = if row.to_file {
                    &destination
                } else {
                    Path::new("-")
                };
                let figures = time(row, sides[index], &server, out)?;
                outcomes[index].rounds.push(figures);
            }
        }
        let row = Measured {
            name: row.name.to_owned(),
            two_cpus: false,
            outcomes,
        };
        report::print(&row);
        measured.push(row);
    }
    let _ = fs::remove_file(&destination);
    if let Some(out) = words.get("out") {
        report::write(
            Path::new(out),
            Report::Clients,
            &measured,
            rounds,
            Duration::ZERO,
        )?;
    }
    Ok(())
}

/// Fetches to a file, of which every byte is compared.
fn verify(row: &Row, prepare: Prepare, server: &Server, out: &PathBuf) -> Result<(), String> {
    // curl overwrites a file with each range, and so is compared by the last one.
    time(row, prepare, server, out)?;
    let bytes = fs::read(out).map_err(|error| error.to_string())?;
    let is_right = match row.ranges {
        None => bytes.len() as u64 == FILE_BYTES && content::is_at(&bytes, 0),
        Some((len, count)) => {
            let of = |number| start_of(number, len, FILE_BYTES / len);
            let pieces: Vec<&[u8]> = bytes.chunks(len as usize).collect();
            match pieces[..] {
                [last] => last.len() as u64 == len && content::is_at(last, of(count - 1)),
                _ => {
                    bytes.len() as u64 == len * count
                        && (0..)
                            .zip(&pieces)
                            .all(|(n, piece)| content::is_at(piece, of(n)))
                }
            }
        }
    };
    if is_right {
        return Ok(());
    }
    Err(format!("{} bytes, and not the right ones", bytes.len()))
}

/// Runs one side once. CPU time is that of the whole process, to the hundredth of a second.
fn time(row: &Row, prepare: Prepare, server: &Server, out: &Path) -> Result<Figures, String> {
    // Truncating a file of a gibibyte is nobody's work here.
    let _ = fs::remove_file(out);
    let url = format!("http://127.0.0.1:{}{}", server.port, server.path);
    let mut command = prepare(row, &url, out)?;
    let servers = [server.child.id()];
    let read = || (cpu::children(), Threads::read(&servers), cpu::busy(&[0]));
    let before = read();
    let start = Instant::now();
    let status = command
        .stdin(Stdio::null())
        .status()
        .map_err(|error| error.to_string())?;
    let seconds = start.elapsed().as_secs_f64();
    let after = read();
    if !status.success() {
        return Err(format!("it ended with {status}"));
    }
    Ok(Figures {
        requests: row.ranges.map_or(1, |(_, count)| count),
        seconds,
        client_cpu: after.0 - before.0,
        server_cpu: after.1.since(&before.1),
        busy: after.2 - before.2,
        ..Figures::default()
    })
}
