//! How cost grows: with connections, with the length of a range and that of its source, and with
//! how often a server was started and stopped.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use peer_net::{ByteSource, PeerServer, SourceResolver, fetch_range};
use serde_json::{Value, json};

use crate::{
    content::{self, FILE_BYTES, HANDLE, TOKEN},
    cpu::{self, field},
    growth_report,
    load::{Asking, Figures, Work},
    serve::Computed,
    table::{self, Place, Server, Words, turns},
};

/// What is measured, of a run that has ended.
type Figure = fn(&Work, &Figures) -> f64;

type Start = fn(&Place) -> Result<Server, String>;

const NGINX: (&str, Start) = ("nginx", table::nginx);
const PEER: (&str, Start) = ("peer", table::peer_for_many);
const LENDS: (&str, Start) = ("peer, sendfile", table::peer_lends);

/// From so many connections on it shows what the kernel needs for one: others use some too.
const KERNEL_MIN: u64 = 32;

/// What all curves are measured with.
struct Setting {
    place: Place,
    rounds: u64,
    time: Duration,
    connections: u64,
    cycles: u64,
}

/// A curve's name, as `curves=` and the document have it, and how it is measured.
type Measured = (&'static str, fn(&Setting) -> Result<Curve, String>);

const CURVES: [Measured; 5] = [
    ("connections", connections),
    ("idle connections", idle),
    ("ranges", ranges),
    ("sources", sources),
    ("starts and stops", starts_and_stops),
];

/// What something costs at each point of its growth.
pub(crate) struct Curve {
    /// What there is more of at each point.
    pub(crate) of: &'static str,
    pub(crate) points: Vec<u64>,
    /// The points are bytes.
    pub(crate) in_bytes: bool,
    pub(crate) lines: Vec<Line>,
}

/// One measure of one side.
pub(crate) struct Line {
    pub(crate) side: String,
    pub(crate) measure: &'static str,
    /// At each point, round by round.
    pub(crate) values: Vec<Vec<f64>>,
}

impl Curve {
    fn new(of: &'static str, points: Vec<u64>, in_bytes: bool) -> Self {
        Self {
            of,
            points,
            in_bytes,
            lines: Vec::new(),
        }
    }

    fn add(&mut self, side: &str, measure: &'static str, point: usize, value: f64) {
        let is_it = |line: &Line| line.side == side && line.measure == measure;
        let index = self.lines.iter().position(is_it).unwrap_or_else(|| {
            self.lines.push(Line {
                side: side.to_owned(),
                measure,
                values: vec![Vec::new(); self.points.len()],
            });
            self.lines.len() - 1
        });
        self.lines[index].values[point].push(value);
    }

    /// Visits every point with every side, once a round; each side is first as often as last.
    fn visit(
        &mut self,
        rounds: u64,
        sides: usize,
        mut visit: impl FnMut(&mut Self, usize, usize) -> Result<(), String>,
    ) -> Result<(), String> {
        for round in 0..rounds {
            for point in turns(round, self.points.len()) {
                for side in turns(round, sides) {
                    visit(self, point, side)?;
                }
            }
        }
        Ok(())
    }

    /// The same with work for a server that runs. Before, each does it once with every byte compared.
    fn load<'s>(
        &mut self,
        setting: &Setting,
        sides: usize,
        of: impl Fn(usize, usize) -> (&'s str, &'s Server, Work),
        measures: &[(&'static str, Figure)],
    ) -> Result<(), String> {
        let run = |curve: &mut Self, point: usize, side: usize, verify: bool| {
            let (name, server, work) = of(point, side);
            let time = if verify {
                setting.time / 5
            } else {
                setting.time
            };
            let work = Work {
                time,
                verify,
                ..work
            };
            let figures = table::load(server, &work, &[0]).map_err(|error| {
                format!("{name}, {} {}: {error}", curve.points[point], curve.of)
            })?;
            for (measure, value) in measures.iter().filter(|_| !verify) {
                curve.add(name, measure, point, value(&work, &figures));
            }
            Ok(())
        };
        self.visit(1, sides, |curve, point, side| run(curve, point, side, true))?;
        self.visit(setting.rounds, sides, |curve, point, side| {
            run(curve, point, side, false)
        })
    }
}

/// `growth [rounds=7] [milliseconds=100] [connections=512] [cycles=10000] [curves=TEXT] [scratch=DIR]
/// [out=DIR]`: with `curves`, only those, and nothing is written.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let words = Words(arguments);
    let setting = Setting {
        place: words.place()?,
        rounds: words.number("rounds", 7)?.max(1),
        time: Duration::from_millis(words.number("milliseconds", 100)?),
        connections: words.number("connections", 512)?,
        cycles: words.number("cycles", 10_000)?,
    };
    cpu::pin(&[0])?;
    let mut curves = Vec::new();
    for (name, measure) in CURVES {
        if words.wants("curves", name) {
            let start = Instant::now();
            let curve = measure(&setting)?;
            println!("{name}, {:.0} s\n", start.elapsed().as_secs_f64());
            println!("{}", growth_report::markdown(&curve));
            curves.push((name, curve));
        }
    }
    match words.get("out") {
        Some(out) if words.get("curves").is_none() => {
            growth_report::write(Path::new(out), &curves, setting.rounds, setting.time)
        }
        _ => Ok(()),
    }
}

/// Powers of `factor`, from `first` to `last`.
fn powers(first: u64, factor: u64, last: u64) -> Vec<u64> {
    let next = |value: &u64| value.checked_mul(factor);
    std::iter::successors(Some(first), next)
        .take_while(|value| *value <= last)
        .collect()
}

/// Starts each, or says why not.
fn start_all(place: &Place, sides: &[(&'static str, Start)]) -> Vec<(&'static str, Server)> {
    let mut servers = Vec::new();
    for (name, start) in sides {
        match start(place) {
            Ok(server) => servers.push((*name, server)),
            Err(reason) => eprintln!("SKIPPED {name}: {reason}"),
        }
    }
    servers
}

fn work(connections: u64, range: u64) -> Work {
    Work {
        connections: connections as usize,
        range,
        total: FILE_BYTES,
        from: None,
        discard: false,
        connect: false,
        time: Duration::ZERO,
        verify: false,
    }
}

fn cpu_per_request(_: &Work, figures: &Figures) -> f64 {
    figures.server_cpu / figures.requests as f64 * 1e6
}

fn connections(setting: &Setting) -> Result<Curve, String> {
    let servers = start_all(&setting.place, &[NGINX, PEER]);
    let mut curve = Curve::new("connections", powers(1, 2, setting.connections), false);
    let points = curve.points.clone();
    curve.load(
        setting,
        servers.len(),
        |point, side| {
            let (name, server) = &servers[side];
            (name, server, work(points[point], 1024))
        },
        &[
            ("µs of CPU per request", cpu_per_request),
            ("waits per request", |_, figures| {
                figures.waits / figures.requests as f64
            }),
        ],
    )?;
    Ok(curve)
}

fn ranges(setting: &Setting) -> Result<Curve, String> {
    let servers = start_all(&setting.place, &[NGINX, PEER, LENDS]);
    let mut curve = Curve::new("bytes of a range", powers(1 << 10, 2, 8 << 20), true);
    let points = curve.points.clone();
    curve.load(
        setting,
        servers.len(),
        |point, side| {
            let (name, server) = &servers[side];
            (name, server, work(1, points[point]))
        },
        &[
            ("µs of CPU per request", cpu_per_request),
            ("s of CPU per GiB", |work, figures| {
                let bytes = figures.requests as f64 * work.range as f64;
                figures.server_cpu / bytes * f64::from(1 << 30)
            }),
        ],
    )?;
    Ok(curve)
}

/// Each length has a server of its own, or its memory would not tell.
fn sources(setting: &Setting) -> Result<Curve, String> {
    const RANGE: u64 = 1024;
    const PLACES: [&str; 3] = ["first", "middle", "last"];
    let mut points = powers(1 << 20, 4, 1 << 40);
    points.push(5 << 40);
    let mut curve = Curve::new("bytes of the source", points, true);
    let mut servers = Vec::new();
    for len in &curve.points {
        let mut server = table::peer(&setting.place)?;
        server.path = format!("/track/{len}");
        servers.push(server);
    }
    let points = curve.points.clone();
    curve.load(
        setting,
        PLACES.len(),
        |point, side| {
            let total = points[point];
            let from = (total - RANGE) / 2 * side as u64;
            let work = Work {
                total,
                from: Some(from),
                ..work(1, RANGE)
            };
            (PLACES[side], &servers[point], work)
        },
        &[("µs of CPU per request", cpu_per_request)],
    )?;
    for (point, server) in servers.iter().enumerate() {
        let kib = resident(server.child.id());
        curve.add("peer", "KiB resident afterwards", point, kib);
    }
    Ok(curve)
}

/// KiB of a process in memory, to the page; what `status` says may be off by dozens.
fn resident(process: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup"));
    field(&text.unwrap_or_default(), "Rss:").map_or(f64::NAN, |kib| kib as f64)
}

/// KiB that the kernel has for itself in the whole system: objects, stacks, page tables.
fn kernel() -> f64 {
    // Sums up what each CPU has counted; root alone may, and others get a rougher figure.
    let _ = fs::read_to_string("/proc/sys/vm/stat_refresh");
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let names = ["Slab:", "KernelStack:", "PageTables:"];
    let all = names.map(|name| field(&text, name).map_or(f64::NAN, |kib| kib as f64));
    all.iter().sum()
}

/// Lets what was just closed be freed, and what was just begun be finished.
fn settle() {
    thread::sleep(Duration::from_millis(30));
}

/// Connections that were answered once, and stay. The servers are new each time: memory that was
/// freed, but kept for the next connection, would hide what one takes.
fn idle(setting: &Setting) -> Result<Curve, String> {
    let mut curve = Curve::new("idle connections", powers(1, 2, setting.connections), false);
    let sides = [NGINX, PEER];
    curve.visit(setting.rounds, sides.len(), |curve, point, side| {
        let (name, start) = sides[side];
        let count = curve.points[point];
        let each = |more: f64| more / count as f64;
        // Both ends of the connections are in this system; without a server, they are all there is.
        let bare = each(bare(count).map_err(|error| error.to_string())?);
        let server = match start(&setting.place) {
            Ok(server) => server,
            Err(reason) => {
                eprintln!("SKIPPED {name}: {reason}");
                return Ok(());
            }
        };
        let process = server.child.id();
        let hold = |connections| {
            let asking = Asking {
                path: server.path.clone(),
                address: SocketAddr::from(([127, 0, 0, 1], server.port)),
                work: Work {
                    verify: true,
                    ..work(connections, 1024)
                },
            };
            let held = asking.begin();
            settle();
            held.map_err(|error| format!("{name}, {connections} idle connections: {error}"))
        };
        // What the first one ever costs is no part of the growth.
        drop(hold(1)?);
        settle();
        let before = (resident(process), kernel());
        let held = hold(count)?;
        let after = (resident(process), kernel());
        drop(held);
        curve.add(name, "KiB resident each", point, each(after.0 - before.0));
        if count < KERNEL_MIN {
            return Ok(());
        }
        let kernel = each(after.1 - before.1) - bare / 2.0;
        curve.add(name, "KiB of the kernel's each", point, kernel);
        Ok(())
    })?;
    Ok(curve)
}

/// KiB of the kernel's for so many connections of this process with itself.
fn bare(count: u64) -> std::io::Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    settle();
    let before = kernel();
    let mut ends = Vec::new();
    for _ in 0..count {
        ends.push(TcpStream::connect(address)?);
        ends.push(listener.accept()?.0);
    }
    settle();
    Ok(kernel() - before)
}

fn starts_and_stops(setting: &Setting) -> Result<Curve, String> {
    let mut curve = Curve::new("starts and stops", powers(1, 10, setting.cycles), false);
    for _ in 0..setting.rounds {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let output = Command::new(program)
            .args(["cycles", &setting.cycles.to_string()])
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(format!("it ended with {}", output.status));
        }
        let lines = String::from_utf8_lossy(&output.stdout);
        for (point, line) in lines.lines().enumerate() {
            let value: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
            let mut add = |side: &str, measure, name: &str| {
                curve.add(
                    side,
                    measure,
                    point,
                    value[name].as_f64().unwrap_or(f64::NAN),
                );
            };
            add("by the clock", "µs each", "clock");
            add("by CPU time", "µs each", "cpu");
            add("peer", "KiB resident", "resident");
            add("threads", "left over", "threads");
            add("descriptors", "left over", "descriptors");
        }
    }
    Ok(curve)
}

/// One of 15 million of this host. A server on the address of thousands before it waits for the kernel,
/// which passes by every port that it keeps a connection of: for a minute after it was closed.
fn address(number: u64) -> Ipv4Addr {
    let part = |size: u64| (number / size % 250) as u8;
    Ipv4Addr::new(127, 1 + part(250 * 250), part(250), 1 + part(1))
}

/// `cycles MOST`: starts a server, fetches from it, and stops it, again and again. Prints what is
/// left after the first, the tenth, and so on.
pub(crate) fn cycles(arguments: &[String]) -> Result<(), String> {
    let most = arguments.first().and_then(|most| most.parse().ok());
    let most = most.ok_or("cycles MOST")?;
    let resolver: SourceResolver = Arc::new(|handle: &str| {
        let source = Computed { len: 1 << 20 };
        (handle == HANDLE).then(|| Arc::new(source) as Arc<dyn ByteSource>)
    });
    let process = std::process::id();
    let count = |what: &str| fs::read_dir(format!("/proc/self/{what}")).map_or(0, Iterator::count);
    // Reading the directory takes a descriptor; the main thread was there before.
    let before = [count("task"), count("fd")];
    let mut start = (Instant::now(), cpu::own_seconds(), 0);
    for number in 1..=most {
        let failed = |error: peer_net::PeerError| format!("cycle {number}: {error}");
        let bind = format!("{}:0", address(number));
        let server = PeerServer::start(&bind, TOKEN, Arc::clone(&resolver)).map_err(failed)?;
        let base = server.local_addr().to_string();
        let part = fetch_range(&base, TOKEN, HANDLE, 4096 + number, Some(1024)).map_err(failed)?;
        if part.bytes.len() != 1024 || !content::is_at(&part.bytes, 4096 + number) {
            return Err(format!("cycle {number}: wrong bytes"));
        }
        drop(server);
        if powers(1, 10, number).last() == Some(&number) {
            let cycles = (number - start.2) as f64;
            let cpu = cpu::own_seconds() - start.1;
            let clock = start.0.elapsed().as_secs_f64();
            // A thread that has done all it had to do may wait for a CPU to end on.
            let until = Instant::now() + Duration::from_secs(2);
            while count("task") > before[0] && Instant::now() < until {
                settle();
            }
            let line = json!({
                "clock": clock / cycles * 1e6,
                "cpu": cpu / cycles * 1e6,
                "resident": resident(process),
                "threads": count("task") as f64 - before[0] as f64,
                "descriptors": count("fd") as f64 - before[1] as f64,
            });
            println!("{line}");
            start = (Instant::now(), cpu::own_seconds(), number);
        }
    }
    Ok(())
}
