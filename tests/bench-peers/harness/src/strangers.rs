//! What strangers in masses cost those who hold the token: the same things in calm and under
//! attack, by turns.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    attack::{RETURNING, STRANGERS, VISITORS},
    content::{self, FILE_BYTES, HANDLE, TOKEN},
    cpu,
    report::{put, quartiles, with_table},
    table::{self, Server},
};

/// Bytes of each new fetch.
const FETCH_BYTES: u64 = 64 * 1024;

/// Bytes that the running transfer asks for at a time.
const TRANSFER_BYTES: u64 = 256 << 20;

/// Pause between two fetches, so that strangers come in between.
const PAUSE: Duration = Duration::from_millis(10);

/// What one phase came to.
struct Phase {
    /// Content bytes a second of the running transfer, by the clock.
    rate: f64,
    /// The same, without the time in which others had the CPU.
    rate_alone: f64,
    /// The same, for each second of CPU of server and client together.
    rate_by_cpu: f64,
    /// The part of the CPU that others had meanwhile.
    others: f64,
    /// Seconds that each new fetch took.
    fetches: Vec<f64>,
    failed: Vec<String>,
    threads: u64,
    resident_kib: u64,
}

type Measure = fn(&Phase) -> f64;

/// Strangers from one address, or from many.
struct Scene {
    from: &'static str,
    /// Calm and under attack, round by round.
    rounds: Vec<[Phase; 2]>,
    /// Seconds until the server had closed all strangers, after the last one came.
    gone: f64,
}

/// `strangers [rounds=12] [milliseconds=1000] [fetches=20] [scratch=DIR] [out=DIR]`
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let word = |name: &str| {
        arguments
            .iter()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    };
    let number = |name: &str, default: u64| match word(name) {
        Some(text) => text
            .parse()
            .map_err(|_| format!("{name}={text} is no number")),
        None => Ok(default),
    };
    let rounds = number("rounds", 12)?;
    let time = Duration::from_millis(number("milliseconds", 1000)?);
    let fetches = number("fetches", 20)?;
    let scratch = word("scratch").map_or_else(std::env::temp_dir, PathBuf::from);
    let place = table::Place::make(&scratch.join("bench-peers"))?;
    let load_before = load_average();
    let mut scenes = Vec::new();
    for from in ["one", "many"] {
        let scene = scene(&place, from, rounds, time, fetches)?;
        print(&scene);
        scenes.push(scene);
    }
    let Some(out) = word("out") else {
        return Ok(());
    };
    let loads = [load_before, load_average()];
    let out = Path::new(out);
    put(
        out,
        "strangers.json",
        &format!("{:#}\n", as_json(&scenes, loads)),
    )?;
    let document = std::fs::read_to_string(out.join("BENCHMARKS.md"))
        .map_err(|error| format!("BENCHMARKS.md: {error}"))?;
    let document = with_table(&document, "strangers", &markdown(&scenes))?;
    put(out, "BENCHMARKS.md", &document)
}

fn scene(
    place: &table::Place,
    from: &'static str,
    rounds: u64,
    time: Duration,
    fetches: u64,
) -> Result<Scene, String> {
    // A server that has seen nothing yet, and its clients, on the first CPU; strangers on the other.
    cpu::pin(&[0])?;
    let server = table::peer(place)?;
    let address = SocketAddr::from(([127, 0, 0, 1], server.port));
    cpu::pin(&[1])?;
    let mut strangers = Strangers::start(address, from)?;
    cpu::pin(&[0])?;
    let mut transfer = Transfer::start(address).map_err(|error| error.to_string())?;
    let mut phase = || phase(&server, &mut transfer, time, fetches);
    phase()?;
    settle(&server);
    let calm = descriptors(&server)?;
    let mut measured = Vec::new();
    for round in 0..rounds {
        // There and back, so that neither is always behind the other.
        let order = if round % 2 == 0 { [1, 0] } else { [0, 1] };
        let mut both = [None, None];
        for which in order {
            if which == 1 {
                strangers.order("go", "ready")?;
            }
            both[which] = Some(phase()?);
            if which == 1 {
                strangers.order("rest", "resting")?;
                settle(&server);
            }
        }
        if let [Some(calm), Some(attack)] = both {
            measured.push([calm, attack]);
        }
    }
    Ok(Scene {
        from,
        rounds: measured,
        gone: gone(&server, &mut strangers, calm)?,
    })
}

/// How many descriptors the server has open.
fn descriptors(server: &Server) -> Result<usize, String> {
    let path = format!("/proc/{}/fd", server.child.id());
    let all = std::fs::read_dir(path).map_err(|error| error.to_string())?;
    Ok(all.count())
}

/// How long strangers who stay are there: until the server has as many descriptors as when it was
/// `calm`. To ask them would not do: with SYN cookies they do not notice that they were never let in.
fn gone(server: &Server, strangers: &mut Strangers, calm: usize) -> Result<f64, String> {
    strangers.order("go", "ready")?;
    std::thread::sleep(Duration::from_secs(1));
    strangers.order("stay", "staying")?;
    if descriptors(server)? <= calm {
        return Err("no stranger was let in".to_owned());
    }
    let start = Instant::now();
    while descriptors(server)? > calm {
        if start.elapsed() > Duration::from_secs(120) {
            return Err("strangers stay for ever".to_owned());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(start.elapsed().as_secs_f64())
}

/// Waits until those who left are forgotten: what they leave behind is theirs, not calm.
fn settle(server: &Server) {
    let mut before = f64::INFINITY;
    for _ in 0..20 {
        let now = cpu::process_seconds(server.child.id());
        if now <= before {
            return;
        }
        before = now;
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn phase(
    server: &Server,
    transfer: &mut Transfer,
    time: Duration,
    fetches: u64,
) -> Result<Phase, String> {
    let pids = [server.child.id(), std::process::id()];
    let own = || pids.into_iter().map(cpu::process_seconds).sum::<f64>();
    let (own_before, busy_before) = (own(), cpu::busy(&[0]));
    let start = Instant::now();
    let mut status = Status::default();
    let bytes = transfer
        .run(time, || status.look(pids[0]))
        .map_err(|error| format!("the running transfer: {error}"))?;
    let seconds = start.elapsed().as_secs_f64();
    let own = own() - own_before;
    let others = (cpu::busy(&[0]) - busy_before - own).clamp(0.0, seconds);
    let mut phase = Phase {
        rate: bytes as f64 / seconds,
        rate_alone: bytes as f64 / (seconds - others).max(own),
        rate_by_cpu: bytes as f64 / own,
        others: others / seconds,
        fetches: Vec::new(),
        failed: Vec::new(),
        threads: 0,
        resident_kib: 0,
    };
    for n in 0..fetches {
        let start = Instant::now();
        match fetch(
            transfer.address,
            n * 7919 % (FILE_BYTES / FETCH_BYTES) * FETCH_BYTES,
        ) {
            Ok(()) => phase.fetches.push(start.elapsed().as_secs_f64()),
            Err(error) => phase.failed.push(error.to_string()),
        }
        status.look(pids[0]);
        std::thread::sleep(PAUSE);
    }
    (phase.threads, phase.resident_kib) = (status.threads, status.resident_kib);
    Ok(phase)
}

/// The most that was seen of a process.
#[derive(Default)]
struct Status {
    threads: u64,
    resident_kib: u64,
}

impl Status {
    fn look(&mut self, process: u32) {
        let text = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let number = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            line.and_then(|line| line.split_whitespace().next()?.parse().ok())
                .unwrap_or(0)
        };
        self.threads = self.threads.max(number("Threads:"));
        self.resident_kib = self.resident_kib.max(number("VmRSS:"));
    }
}

fn ask(stream: &mut TcpStream, start: u64, len: u64, more: &str) -> std::io::Result<()> {
    let end = start + len - 1;
    let request = format!(
        "GET /track/{HANDLE} HTTP/1.1\r\nHost: peer.test\r\nAuthorization: Bearer {TOKEN}\r\n\
         Range: bytes={start}-{end}\r\n{more}\r\n"
    );
    stream.write_all(request.as_bytes())
}

/// Reads a 206 and its content, comparing both ends of whatever a read brings.
fn read_answer(
    stream: &mut TcpStream,
    block: &mut [u8],
    start: u64,
    len: u64,
    mut look: impl FnMut(),
) -> std::io::Result<()> {
    let error = |why: &str| Err(std::io::Error::other(why.to_owned()));
    let mut filled = 0;
    let head = loop {
        let n = stream.read(&mut block[filled..])?;
        if n == 0 {
            return error("closed without an answer");
        }
        filled += n;
        let end = block[..filled]
            .windows(4)
            .position(|four| four == b"\r\n\r\n");
        if let Some(end) = end {
            break end + 4;
        }
    };
    if !block.starts_with(b"HTTP/1.1 206 ") {
        return error("not the answer");
    }
    let (mut from, mut to) = (head, filled);
    let mut done = 0;
    loop {
        let piece = &block[from..to];
        let edge = piece.len().min(16);
        let last = piece.len() - edge;
        let at = start + done;
        if !content::is_at(&piece[..edge], at) || !content::is_at(&piece[last..], at + last as u64)
        {
            return error("other bytes");
        }
        done += piece.len() as u64;
        if done >= len {
            return if done == len {
                Ok(())
            } else {
                error("too many bytes")
            };
        }
        look();
        from = 0;
        to = stream.read(block)?;
        if to == 0 {
            return error("closed in the middle");
        }
    }
}

fn fetch(address: SocketAddr, start: u64) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    ask(&mut stream, start, FETCH_BYTES, "Connection: close\r\n")?;
    let mut block = [0; 128 * 1024];
    read_answer(&mut stream, &mut block, start, FETCH_BYTES, || {})
}

/// The transfer that runs through all phases, on one connection.
struct Transfer {
    address: SocketAddr,
    stream: TcpStream,
    block: Vec<u8>,
    start: u64,
}

impl Transfer {
    fn start(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            address,
            stream,
            block: vec![0; 256 * 1024],
            start: 0,
        })
    }

    /// Takes content for about so long. Returns how many bytes came.
    fn run(&mut self, time: Duration, mut look: impl FnMut()) -> std::io::Result<u64> {
        let begun = Instant::now();
        let mut looked = begun;
        let mut bytes = 0;
        while begun.elapsed() < time {
            let start = self.start;
            self.start = (start + TRANSFER_BYTES) % FILE_BYTES;
            ask(&mut self.stream, start, TRANSFER_BYTES, "")?;
            let each = || {
                if looked.elapsed() > Duration::from_millis(200) {
                    looked = Instant::now();
                    look();
                }
            };
            read_answer(
                &mut self.stream,
                &mut self.block,
                start,
                TRANSFER_BYTES,
                each,
            )?;
            bytes += TRANSFER_BYTES;
        }
        Ok(bytes)
    }
}

/// The process that attacks.
struct Strangers {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Strangers {
    fn start(address: SocketAddr, from: &str) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut child = Command::new(program)
            .args(["attack", &address.to_string(), from])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        let stdout = child.stdout.take().ok_or("it says nothing")?;
        let lines = BufReader::new(stdout);
        Ok(Self { child, lines })
    }

    /// Gives an order, and waits until it is carried out.
    fn order(&mut self, order: &str, answer: &str) -> Result<(), String> {
        let stdin = self.child.stdin.as_mut().ok_or("it hears nothing")?;
        writeln!(stdin, "{order}").map_err(|error| error.to_string())?;
        let mut line = String::new();
        let _ = self.lines.read_line(&mut line);
        if line.trim() == answer {
            return Ok(());
        }
        Err(format!("strangers said `{}` to {order}", line.trim()))
    }
}

impl Drop for Strangers {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("?").to_owned()
}

// --------------------------------------------------------------------------------- what came out

impl Scene {
    /// Quarters of attack to calm, round by round.
    fn ratio(&self, of: fn(&Phase) -> f64) -> [f64; 3] {
        let ratios: Vec<f64> = self
            .rounds
            .iter()
            .map(|[calm, attack]| of(attack) / of(calm))
            .collect();
        quartiles(&ratios)
    }

    fn phases(&self, which: usize) -> impl Iterator<Item = &Phase> {
        self.rounds.iter().map(move |round| &round[which])
    }

    /// The quarters of all fetches, in microseconds.
    fn latencies(&self, which: usize) -> [f64; 3] {
        let all: Vec<f64> = self
            .phases(which)
            .flat_map(|phase| &phase.fetches)
            .map(|seconds| seconds * 1e6)
            .collect();
        quartiles(&all)
    }

    fn most(&self, which: usize, of: fn(&Phase) -> u64) -> u64 {
        self.phases(which).map(of).max().unwrap_or(0)
    }

    fn fetched(&self, which: usize) -> (usize, usize) {
        let good = self.phases(which).map(|phase| phase.fetches.len()).sum();
        let bad: usize = self.phases(which).map(|phase| phase.failed.len()).sum();
        (good, good + bad)
    }

    /// What the table says: a measure, in calm, under attack, and the ratio with its quarters.
    fn lines(&self) -> Vec<[String; 4]> {
        let middle = |which, of: fn(&Phase) -> f64| {
            quartiles(&self.phases(which).map(of).collect::<Vec<_>>())[1]
        };
        let mut lines = Vec::new();
        let rates: [(&str, Measure); 3] = [
            ("running transfer, by the clock, MB/s", |phase| phase.rate),
            ("… without others' time", |phase| phase.rate_alone),
            ("… for each second of own CPU", |phase| phase.rate_by_cpu),
        ];
        for (name, of) in rates {
            let [low, ratio, high] = self.ratio(of);
            lines.push([
                name.to_owned(),
                format!("{:.0}", middle(0, of) / 1e6),
                format!("{:.0}", middle(1, of) / 1e6),
                format!("{ratio:.2} ({low:.2}–{high:.2})"),
            ]);
        }
        let share = |which| format!("{:.0} %", middle(which, |phase| phase.others) * 100.0);
        lines.push([
            "… others' share of the CPU".to_owned(),
            share(0),
            share(1),
            String::new(),
        ]);
        let [calm, attack] = [self.latencies(0), self.latencies(1)];
        let show = |[low, middle, high]: [f64; 3]| format!("{middle:.0} ({low:.0}–{high:.0})");
        lines.push([
            "new fetch of 64 KiB, µs".to_owned(),
            show(calm),
            show(attack),
            format!("{:.2}", attack[1] / calm[1]),
        ]);
        let fetched = |which| {
            let (good, all) = self.fetched(which);
            format!("{good} of {all}")
        };
        lines.push([
            "… succeeded".to_owned(),
            fetched(0),
            fetched(1),
            String::new(),
        ]);
        let mut most = |name: &str, of: fn(&Phase) -> u64| {
            let [calm, attack] = [self.most(0, of), self.most(1, of)];
            lines.push([
                name.to_owned(),
                calm.to_string(),
                attack.to_string(),
                String::new(),
            ]);
        };
        most("threads of the app, at most", |phase| phase.threads);
        most("its resident memory, KiB, at most", |phase| {
            phase.resident_kib
        });
        lines.push([
            "all strangers gone after, s".to_owned(),
            String::new(),
            format!("{:.1}", self.gone),
            String::new(),
        ]);
        lines
    }
}

fn print(scene: &Scene) {
    println!("strangers from {} address(es)", scene.from);
    for [name, calm, attack, ratio] in scene.lines() {
        println!("  {name:<40} calm {calm:>16}  attack {attack:>16}  {ratio}");
    }
    for failed in scene
        .phases(0)
        .chain(scene.phases(1))
        .flat_map(|phase| &phase.failed)
    {
        println!("  failed: {failed}");
    }
}

fn markdown(scenes: &[Scene]) -> String {
    let mut text = String::from(
        "| strangers from | what | calm | under attack | ratio |\n| --- | --- | --- | --- | --- |\n",
    );
    for scene in scenes {
        let from = match scene.from {
            "one" => "the peer's own address",
            _ => "62,500 addresses",
        };
        for [name, calm, attack, ratio] in scene.lines() {
            text += &format!("| {from} | {name} | {calm} | {attack} | {ratio} |\n");
        }
    }
    text
}

fn as_json(scenes: &[Scene], loads: [String; 2]) -> Value {
    let phase = |phase: &Phase| {
        json!({
            "bytes_per_second": phase.rate,
            "bytes_per_second_without_others": phase.rate_alone,
            "bytes_per_own_cpu_second": phase.rate_by_cpu,
            "others_share_of_cpu": phase.others,
            "fetch_seconds": phase.fetches,
            "fetches_failed": phase.failed,
            "threads": phase.threads,
            "resident_kib": phase.resident_kib,
        })
    };
    let scenes: Vec<_> = scenes
        .iter()
        .map(|scene| {
            let rounds: Vec<_> = scene
                .rounds
                .iter()
                .map(|[calm, attack]| json!({"calm": phase(calm), "attack": phase(attack)}))
                .collect();
            json!({"from": scene.from, "gone_seconds": scene.gone, "rounds": rounds})
        })
        .collect();
    json!({
        "silent": STRANGERS,
        "trickling": STRANGERS,
        "visitors_per_second": VISITORS,
        "returning_per_second": RETURNING,
        "load_average": loads,
        "scenes": scenes,
    })
}
