//! Runs every work against every side in turn, and keeps what came out.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    content::{self, HANDLE},
    cpu,
    load::{Figures, Work},
    report::{self, Report},
};

/// One line of the table.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) work: Work,
    /// Server and client on a CPU each, instead of both on one.
    pub(crate) two_cpus: bool,
}

pub(crate) fn rows(time: Duration) -> Vec<Row> {
    let work = |connections, range| Work {
        connections,
        range,
        total: content::FILE_BYTES,
        from: None,
        discard: false,
        connect: false,
        time,
        verify: false,
    };
    let row = |name: &str, work: Work| Row {
        name: name.to_owned(),
        work,
        two_cpus: false,
    };
    let mut rows = vec![row("1 GiB", work(1, content::FILE_BYTES))];
    rows.push(Row {
        two_cpus: true,
        ..row("1 GiB on two CPUs", work(1, content::FILE_BYTES))
    });
    for connections in [1, 16, 64] {
        rows.push(row(
            &format!("1 KiB × {connections}"),
            work(connections, 1 << 10),
        ));
    }
    for connections in [1, 16, 64] {
        rows.push(row(
            &format!("64 KiB × {connections}"),
            work(connections, 64 << 10),
        ));
    }
    for connections in [1, 16, 64] {
        let work = Work {
            discard: true,
            ..work(connections, 64 << 10)
        };
        rows.push(row(&format!("64 KiB discarded × {connections}"), work));
    }
    for connections in [1, 16, 64] {
        let work = Work {
            connect: true,
            ..work(connections, 1 << 10)
        };
        rows.push(row(
            &format!("1 KiB, a connection each × {connections}"),
            work,
        ));
    }
    rows
}

/// What one side did in one row: a figure per round.
pub(crate) struct Outcome {
    pub(crate) side: String,
    pub(crate) rounds: Vec<Figures>,
}

/// One row, as it was measured; the first side is what the others are compared to.
pub(crate) struct Measured {
    pub(crate) name: String,
    pub(crate) two_cpus: bool,
    pub(crate) outcomes: Vec<Outcome>,
}

/// A server that can be started, and what it needs.
pub(crate) struct Side {
    pub(crate) name: &'static str,
    pub(crate) start: fn(&Place) -> Result<Server, String>,
}

pub(crate) const SIDES: &[Side] = &[
    Side {
        name: "nginx",
        start: nginx,
    },
    Side {
        name: "peer",
        start: peer,
    },
    Side {
        name: "peer, sendfile",
        start: peer_lends,
    },
    Side {
        name: "probe",
        start: probe,
    },
    Side {
        name: "axum",
        start: |place| rival("serve-axum", place),
    },
    Side {
        name: "tiny_http",
        start: |place| rival("serve-tiny", place),
    },
    Side {
        name: "Go",
        start: go,
    },
];

/// Where things stand.
pub(crate) struct Place {
    pub(crate) scratch: PathBuf,
    pub(crate) file: PathBuf,
}

impl Place {
    /// Makes it, with the file that is shared in it.
    pub(crate) fn make(scratch: &Path) -> Result<Self, String> {
        let shared = scratch.join("shared");
        fs::create_dir_all(&shared).map_err(|error| error.to_string())?;
        let file = shared.join(HANDLE);
        content::create(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        let scratch = scratch.to_owned();
        Ok(Self { scratch, file })
    }
}

/// A server that runs; it ends with this.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) port: u16,
    pub(crate) path: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Ours end with their standard input, nginx does not.
        drop(self.child.stdin.take());
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let end = Instant::now() + Duration::from_secs(1);
        while Instant::now() < end {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> Result<u16, String> {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    Ok(socket
        .local_addr()
        .map_err(|error| error.to_string())?
        .port())
}

/// nginx as it comes, with one worker, so that it has one CPU as everybody here.
pub(crate) fn nginx(place: &Place) -> Result<Server, String> {
    let port = free_port()?;
    let dir = place.scratch.join("nginx");
    fs::create_dir_all(&dir).map_err(|error| error.to_string())?;
    let root = dir.display();
    let shared = place.file.parent().unwrap_or(Path::new("/")).display();
    let configuration = format!(
        "daemon off;\nmaster_process off;\nworker_processes 1;\npid {root}/pid;\n\
         error_log {root}/error.log;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n  access_log off;\n  sendfile on;\n  tcp_nopush off;\n  keepalive_requests 1000000000;\n  \
         default_type audio/flac;\n  \
         client_body_temp_path {root}/body; proxy_temp_path {root}/proxy;\n  \
         fastcgi_temp_path {root}/fastcgi;\n  \
         uwsgi_temp_path {root}/uwsgi; scgi_temp_path {root}/scgi;\n  \
         server {{\n    listen 127.0.0.1:{port};\n    location /track/ {{ alias {shared}/; }}\n  }}\n}}\n"
    );
    let file = dir.join("nginx.conf");
    fs::write(&file, configuration).map_err(|error| error.to_string())?;
    let child = Command::new("nginx")
        .arg("-c")
        .arg(&file)
        .arg("-p")
        .arg(&dir)
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("nginx: {error}"))?;
    wait_for(Server {
        child,
        port,
        path: format!("/track/{HANDLE}"),
    })
}

/// Our server inside an app of its own.
pub(crate) fn peer(place: &Place) -> Result<Server, String> {
    serve(place, &[])
}

/// The same, with the file lent to the kernel.
pub(crate) fn peer_lends(place: &Place) -> Result<Server, String> {
    serve(place, &["lend"])
}

/// The same, with room for more connections than by default.
pub(crate) fn peer_for_many(place: &Place) -> Result<Server, String> {
    serve(place, &["many"])
}

fn serve(place: &Place, words: &[&str]) -> Result<Server, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    spawn_with_port(command.arg("serve").arg(&place.file).args(words))
}

/// The bound that is no server.
fn probe(place: &Place) -> Result<Server, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    spawn_with_port(Command::new(program).arg("probe").arg(&place.file))
}

/// The program of the other Rust packages, which is built beside this one.
pub(crate) fn rivals() -> Result<Command, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let program = program.with_file_name("bench-rivals");
    if program.exists() {
        return Ok(Command::new(program));
    }
    Err("bench-rivals was not built".to_owned())
}

fn rival(part: &str, place: &Place) -> Result<Server, String> {
    spawn_with_port(rivals()?.arg(part).arg(&place.file))
}

/// Go's own server, built from a file beside the manifest.
fn go(place: &Place) -> Result<Server, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("serve.go");
    let program = place.scratch.join("serve-go");
    let built = Command::new("go")
        .args(["build", "-o"])
        .args([&program, &source])
        .env("GOPROXY", "off")
        .status()
        .map_err(|error| format!("go: {error}"))?;
    if !built.success() {
        return Err(format!("go build ended with {built}"));
    }
    spawn_with_port(Command::new(program).arg(&place.file))
}

/// Starts a program that prints its port and ends with its standard input.
fn spawn_with_port(command: &mut Command) -> Result<Server, String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        let _ = BufReader::new(stdout).read_line(&mut line);
    }
    let port = line.trim().parse().map_err(|_| "it printed no port")?;
    wait_for(Server {
        child,
        port,
        path: format!("/track/{HANDLE}"),
    })
}

fn wait_for(server: Server) -> Result<Server, String> {
    let end = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(("127.0.0.1", server.port)).is_err() {
        if Instant::now() > end {
            return Err("it does not listen".to_owned());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(server)
}

/// The words `name=value` that both tables take.
pub(crate) struct Words<'a>(pub(crate) &'a [String]);

impl Words<'_> {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let mut words = self.0.iter();
        words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    pub(crate) fn number(&self, name: &str, default: u64) -> Result<u64, String> {
        let Some(text) = self.get(name) else {
            return Ok(default);
        };
        text.parse()
            .map_err(|_| format!("{name}={text} is no number"))
    }

    /// Whether the filter `name` lets `value` pass.
    pub(crate) fn wants(&self, name: &str, value: &str) -> bool {
        self.get(name)
            .is_none_or(|filter| filter.split(',').any(|part| value.contains(part)))
    }

    /// The file that is shared, made if it is not there yet.
    pub(crate) fn place(&self) -> Result<Place, String> {
        let scratch = self
            .get("scratch")
            .map_or_else(std::env::temp_dir, PathBuf::from);
        Place::make(&scratch.join("bench-peers"))
    }
}

/// `table [rounds=7] [milliseconds=400] [rows=TEXT] [sides=TEXT] [scratch=DIR] [out=DIR]`
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let words = Words(arguments);
    let rounds = words.number("rounds", 7)?;
    let time = Duration::from_millis(words.number("milliseconds", 400)?);
    let place = words.place()?;

    let mut measured = Vec::new();
    let mut servers = Vec::new();
    cpu::pin(&[0])?;
    for side in SIDES {
        if side.name == "nginx" || words.wants("sides", side.name) {
            match (side.start)(&place) {
                Ok(server) => servers.push((side.name, server)),
                Err(reason) => eprintln!("SKIPPED {}: {reason}", side.name),
            }
        }
    }
    for row in rows(time) {
        if !words.wants("rows", &row.name) {
            continue;
        }
        let client_cpu = usize::from(row.two_cpus);
        let cpus = if row.two_cpus { vec![0, 1] } else { vec![0] };
        cpu::pin(&[client_cpu])?;
        let mut sides = Vec::new();
        let mut outcomes: Vec<Outcome> = Vec::new();
        let check = Work {
            verify: true,
            time: Duration::from_millis(50),
            ..row.work.clone()
        };
        for (name, server) in &servers {
            if let Err(reason) = load(server, &check, &cpus) {
                skip(name, &row.name, &reason, sides.is_empty())?;
                continue;
            }
            sides.push((name, server));
            outcomes.push(Outcome {
                side: (*name).to_owned(),
                rounds: Vec::new(),
            });
        }
        for round in 0..rounds {
            for index in turns(round, sides.len()) {
                let (name, server) = sides[index];
                match load(server, &row.work, &cpus) {
                    Ok(figures) => outcomes[index].rounds.push(figures),
                    Err(reason) => skip(name, &row.name, &reason, index == 0)?,
                }
            }
        }
        outcomes.retain(|outcome| outcome.rounds.len() as u64 == rounds);
        let row = Measured {
            name: row.name,
            two_cpus: row.two_cpus,
            outcomes,
        };
        report::print(&row);
        measured.push(row);
    }
    if let Some(out) = words.get("out") {
        report::write(Path::new(out), Report::Servers, &measured, rounds, time)?;
    }
    Ok(())
}

/// A side that fails is left out of a row, unless it is the one that the others are compared with.
fn skip(side: &str, row: &str, reason: &str, is_base: bool) -> Result<(), String> {
    if is_base {
        return Err(format!("{side}, {row}: {reason}"));
    }
    eprintln!("SKIPPED {side}, {row}: {reason}");
    Ok(())
}

/// The order of a round: there and back, so that none is always behind the same other.
pub(crate) fn turns(round: u64, count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |turn| match round % 2 {
        0 => turn,
        _ => count - 1 - turn,
    })
}

pub(crate) fn load(server: &Server, work: &Work, cpus: &[usize]) -> Result<Figures, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    load_by(Command::new(program), server, work, cpus)
}

/// The same, by a command that words for this program can be added to.
pub(crate) fn load_by(
    mut command: Command,
    server: &Server,
    work: &Work,
    cpus: &[usize],
) -> Result<Figures, String> {
    let cpus: Vec<String> = cpus.iter().map(usize::to_string).collect();
    let output = command
        .arg("load")
        .arg(format!("address=127.0.0.1:{}", server.port))
        .arg(format!("path={}", server.path))
        .arg(format!("pids={}", server.child.id()))
        .arg(format!("cpus={}", cpus.join(",")))
        .args(work.words())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(format!("the load ended with {}", output.status));
    }
    let value: serde_json::Value =
        serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
    let number = |name: &str| value[name].as_f64().unwrap_or(f64::NAN);
    Ok(Figures {
        requests: number("requests") as u64,
        seconds: number("seconds"),
        client_cpu: number("client_cpu"),
        server_cpu: number("server_cpu"),
        busy: number("busy"),
        waits: number("waits"),
    })
}
