//! What a bridge costs: the same requests, of the peer itself and through a bridge, in turn.

use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Instant,
};

use peer_net::{PeerBridge, PeerClient};

use crate::{
    content::{self, FILE_BYTES, HANDLE, TOKEN, is_at},
    cpu::Threads,
    report::{put, quartiles, with_table},
};

/// Requests of which the first byte is timed, in each round.
const REQUESTS: u64 = 200;

/// `bridge-serve PORT`: a bridge to the peer at this port. Prints a URL for each line it reads.
pub(crate) fn serve(arguments: &[String]) -> Result<(), String> {
    let [port] = arguments else {
        return Err("bridge-serve PORT".to_owned());
    };
    let failed = |error: peer_net::PeerError| error.to_string();
    let client = PeerClient::builder(format!("127.0.0.1:{port}"), TOKEN);
    let client = client.build().map_err(failed)?;
    let bridge = PeerBridge::start().map_err(failed)?;
    for line in io::stdin().lines() {
        line.map_err(|error| error.to_string())?;
        let url = bridge.url(&client, HANDLE, "bench.flac").map_err(failed)?;
        println!("{}", url.as_str());
    }
    Ok(())
}

/// A process of ours, which ends with the value.
struct Part {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Part {
    fn start(words: &[&str]) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (stdin, stdout) = stdin.zip(stdout).ok_or("a process without pipes")?;
        Ok(Self {
            child,
            stdin,
            stdout: BufReader::new(stdout),
        })
    }

    fn line(&mut self) -> Result<String, String> {
        let mut line = String::new();
        let read = self.stdout.read_line(&mut line);
        read.map_err(|error| error.to_string())?;
        Ok(line.trim().to_owned())
    }

    /// Path of a new URL, and the port.
    fn url(&mut self) -> Result<(u16, String), String> {
        writeln!(self.stdin).map_err(|error| error.to_string())?;
        let line = self.line()?;
        let url = line.strip_prefix("http://127.0.0.1:").and_then(|rest| {
            let (port, path) = rest.split_once('/')?;
            Some((port.parse().ok()?, format!("/{path}")))
        });
        url.ok_or(format!("`{line}` is no URL"))
    }

    /// The most memory that it ever held, in bytes.
    fn memory_max(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        kib.unwrap_or(0.0) * 1024.0
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whom to ask.
#[derive(Clone)]
struct Side {
    port: u16,
    path: String,
}

/// Asks over a new connection and reads the head. Returns the connection and what came of the content.
fn ask(side: &Side, first: u64, last: u64) -> io::Result<(TcpStream, Vec<u8>)> {
    let mut stream = TcpStream::connect(("127.0.0.1", side.port))?;
    stream.set_nodelay(true)?;
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nAuthorization: Bearer {TOKEN}\r\n\
         Range: bytes={first}-{last}\r\n\r\n",
        side.path, side.port
    );
    stream.write_all(request.as_bytes())?;
    let mut received = Vec::new();
    let mut block = vec![0; 16 * 1024];
    loop {
        let end = received.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = end.filter(|end| received.len() > end + 4) {
            if !received.starts_with(b"HTTP/1.1 206 ") {
                return Err(io::Error::other("not the range that was asked for"));
            }
            let content = received.split_off(end + 4);
            return Ok((stream, content));
        }
        match stream.read(&mut block)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => received.extend_from_slice(&block[..n]),
        }
    }
}

/// Seconds from the connection to the first byte of content.
fn first_byte(side: &Side, offset: u64) -> Result<f64, String> {
    let begun = Instant::now();
    let (_stream, content) =
        ask(side, offset, FILE_BYTES - 1).map_err(|error| error.to_string())?;
    let took = begun.elapsed();
    if !is_at(&content, offset) {
        return Err("other bytes".to_owned());
    }
    Ok(took.as_secs_f64())
}

/// Seconds that `bytes` from `offset` on take, every byte compared if that is wanted.
fn receive(side: &Side, offset: u64, bytes: u64, verify: bool) -> Result<f64, String> {
    let begun = Instant::now();
    let asked = ask(side, offset, offset + bytes - 1);
    let (mut stream, content) = asked.map_err(|error| error.to_string())?;
    let mut received = content.len() as u64;
    let mut block = vec![0; 256 * 1024];
    while received < bytes {
        let n = stream.read(&mut block).map_err(|error| error.to_string())?;
        let is_right = !verify || is_at(&block[..n], offset + received);
        if n == 0 || !is_right {
            return Err(format!("wrong after {received} bytes"));
        }
        received += n as u64;
    }
    Ok(begun.elapsed().as_secs_f64())
}

/// A place that follows from a number, and no two are near each other for long.
fn place(number: u64) -> u64 {
    let mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11;
    mixed % (FILE_BYTES - (1 << 20))
}

/// The figures of the rounds of one side.
#[derive(Default)]
struct Rounds {
    opening: Vec<f64>,
    seeking: Vec<f64>,
    rate: Vec<f64>,
    cpu: Vec<f64>,
}

/// `bridge [rounds=7] [mebibytes=256] [scratch=DIR] [out=DIR]`
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let word = |name: &str| {
        let mut words = arguments.iter();
        words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    };
    let number = |name: &str, default: u64| {
        let text = word(name);
        text.map_or(Ok(default), |text| {
            text.parse()
                .map_err(|_| format!("{name}={text} is no number"))
        })
    };
    let rounds = number("rounds", 7)?.max(1);
    let bytes = (number("mebibytes", 256)? << 20).clamp(1 << 20, FILE_BYTES);
    let scratch = word("scratch").map_or_else(std::env::temp_dir, PathBuf::from);
    let shared = scratch.join("bench-peers").join("shared");
    fs::create_dir_all(&shared).map_err(|error| error.to_string())?;
    let file = shared.join(HANDLE);
    content::create(&file).map_err(|error| format!("{}: {error}", file.display()))?;

    let mut peer = Part::start(&["serve", &file.to_string_lossy()])?;
    let port = peer.line()?;
    let mut bridge = Part::start(&["bridge-serve", &port])?;
    let port = port.parse().map_err(|_| "it printed no port")?;
    let direct = Side {
        port,
        path: format!("/track/{HANDLE}"),
    };
    let (port, path) = bridge.url()?;
    let bridged = Side { port, path };
    let pids = [peer.child.id(), bridge.child.id()];
    let mut figures = [Rounds::default(), Rounds::default()];
    for side in [&direct, &bridged] {
        receive(side, 3, bytes.min(64 << 20), true)?;
    }
    for round in 0..rounds {
        let turns = if round % 2 == 0 { [0, 1] } else { [1, 0] };
        for turn in turns {
            let side = [&direct, &bridged][turn];
            let own = &mut figures[turn];
            let mut opening = Vec::new();
            let mut seeking = Vec::new();
            for request in 0..REQUESTS {
                let mut new = side.clone();
                if turn == 1 {
                    // As when a track is played that was not before.
                    new.path = bridge.url()?.1;
                }
                opening.push(first_byte(&new, 0)?);
                seeking.push(first_byte(side, place(round * REQUESTS + request))?);
            }
            own.opening.push(quartiles(&opening)[1]);
            own.seeking.push(quartiles(&seeking)[1]);
            let before = Threads::read(&pids);
            // Another stretch each time, so that no bridge has any of it.
            let offset = place(round) / 2;
            own.rate
                .push(bytes as f64 / receive(side, offset, bytes, false)?);
            let used = Threads::read(&pids).since(&before);
            own.cpu.push(used / bytes as f64);
        }
    }
    let one_player = bridge.memory_max();
    std::thread::scope(|scope| {
        let readers = (0..16).map(|reader| {
            let bridged = bridged.clone();
            scope.spawn(move || receive(&bridged, place(reader), 1 << 20, true))
        });
        let readers: Vec<_> = readers.collect();
        let ended = readers.into_iter().map(|reader| match reader.join() {
            Ok(ended) => ended.map(|_| ()),
            Err(_) => Err("a reader panicked".to_owned()),
        });
        ended.collect::<Result<(), String>>()
    })?;
    let memory = [one_player, bridge.memory_max()];
    let table = table(&figures, memory);
    print!("{table}");
    if let Some(out) = word("out") {
        let out = Path::new(out);
        let document = fs::read_to_string(out.join("BENCHMARKS.md"));
        let document = document.map_err(|error| format!("BENCHMARKS.md: {error}"))?;
        put(
            out,
            "BENCHMARKS.md",
            &with_table(&document, "bridge", &table)?,
        )?;
    }
    Ok(())
}

fn table([direct, bridged]: &[Rounds; 2], memory: [f64; 2]) -> String {
    let mut table =
        "| what | direct | through the bridge | ratio |\n| --- | --- | --- | --- |\n".to_owned();
    let mut row = |name: &str, of: fn(&Rounds) -> &Vec<f64>, scale: f64, digits: usize| {
        let ratios: Vec<f64> = of(bridged)
            .iter()
            .zip(of(direct))
            .map(|(b, d)| b / d)
            .collect();
        let shown = |values: &[f64], scale: f64, digits: usize| {
            let [low, middle, high] = quartiles(values).map(|value| value * scale);
            format!("{middle:.digits$} ({low:.digits$}–{high:.digits$})")
        };
        table += &format!(
            "| {name} | {} | {} | {} |\n",
            shown(of(direct), scale, digits),
            shown(of(bridged), scale, digits),
            shown(&ratios, 1.0, 2),
        );
    };
    row(
        "first byte of an item not asked for before, µs",
        |r| &r.opening,
        1e6,
        0,
    );
    row("first byte after a seek, µs", |r| &r.seeking, 1e6, 0);
    row("rate of one stretch, MB/s", |r| &r.rate, 1e-6, 0);
    row("CPU of peer and bridge, s/GB", |r| &r.cpu, 1e9, 2);
    let [one, many] = memory.map(|bytes| bytes / 1e6);
    table
        + &format!(
            "| most memory of the bridge's process: one player at a time; 16 at 16 places, MB \
         | | {one:.1}; {many:.1} | |\n"
        )
}
