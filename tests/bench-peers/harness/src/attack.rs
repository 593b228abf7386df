//! Strangers in masses: silent ones, ones that trickle, and ones that come and go.

use std::{
    io::{self, BufRead, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with},
    process::{Resource, getrlimit, setrlimit},
};

/// Strangers that say nothing, and as many that send a byte a second.
pub(crate) const STRANGERS: usize = 1000;

/// How many a second connect, send garbage or a wrong token, and go.
pub(crate) const VISITORS: u64 = 200;

/// How many a second of the silent and the trickling go, and come again: the server has closed
/// most of them.
pub(crate) const RETURNING: u64 = 200;

/// A visitor stays for so many others, so that its answer finds it.
const VISITORS_KEPT: usize = 50;

const TURN: Duration = Duration::from_nanos(1_000_000_000 / VISITORS);

const GARBAGE: [u8; 512] = [0xff; 512];
const WRONG_TOKEN: &[u8] = b"GET /track/bench HTTP/1.1\r\nHost: stranger.test\r\n\
    Authorization: Bearer fedcba9876543210fedcba9876543210\r\n\r\n";

/// A request that never gets to its end, a byte at a time.
const TRICKLE: &[u8] = b"GET /track/bench HTTP/1.1\r\nHost: stranger.test\r\nX: xxxxxxxxxxxxxxxx";

/// `attack ADDRESS one|many`: does what the lines of its standard input say. `go`: all come, says
/// `ready`, and they go on. `stay`: nobody comes any more, those who are there trickle on; says
/// `staying`. `rest`: they leave; says `resting`.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let [address, from] = arguments else {
        return Err("attack ADDRESS one|many".to_owned());
    };
    // Each is a descriptor.
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).map_err(|error| error.to_string())?;
    let (said, orders) = channel();
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            let _ = said.send(line);
        }
    });
    let mut horde = Horde {
        address: address
            .parse()
            .map_err(|_| format!("no address: {address}"))?,
        many: from == "many",
        came: 0,
        silent: Vec::new(),
        trickling: Vec::new(),
        visitors: Vec::new(),
        turn: 0,
    };
    while let Ok(order) = orders.recv() {
        match order.as_str() {
            "go" => horde.attack(&orders).map_err(|error| error.to_string())?,
            other => return Err(format!("no order: {other}")),
        }
    }
    Ok(())
}

struct Horde {
    address: SocketAddr,
    many: bool,
    came: u32,
    silent: Vec<Option<TcpStream>>,
    /// With how much of the request each has sent.
    trickling: Vec<(Option<TcpStream>, usize)>,
    visitors: Vec<Option<TcpStream>>,
    turn: usize,
}

impl Horde {
    fn attack(&mut self, orders: &Receiver<String>) -> io::Result<()> {
        self.silent = (0..STRANGERS).map(|_| self.come()).collect();
        self.trickling = (0..STRANGERS).map(|_| (self.come(), 0)).collect();
        self.visitors = (0..VISITORS_KEPT).map(|_| None).collect();
        say("ready");
        let mut next = Instant::now();
        let mut stay = false;
        loop {
            next += TURN;
            match orders.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Err(RecvTimeoutError::Timeout) if stay => self.trickle(),
                Err(RecvTimeoutError::Timeout) => self.turn(),
                Ok(order) if order == "stay" => {
                    stay = true;
                    say("staying");
                }
                _ => {
                    self.silent.clear();
                    self.trickling.clear();
                    self.visitors.clear();
                    say("resting");
                    return Ok(());
                }
            }
        }
    }

    /// What happens two hundred times a second.
    fn turn(&mut self) {
        let turn = self.turn;
        let visitor = self.come();
        let sends: &[u8] = if turn % 2 == 0 { &GARBAGE } else { WRONG_TOKEN };
        let _ = visitor.as_ref().map(|mut stream| stream.write(sends));
        self.visitors[turn % VISITORS_KEPT] = visitor;
        const { assert!(RETURNING == VISITORS, "one returns in each turn") };
        let at = turn / 2 % STRANGERS;
        if turn % 2 == 0 {
            self.silent[at] = self.come();
        } else {
            self.trickling[at] = (self.come(), 0);
        }
        self.trickle();
    }

    /// A part of those that trickle, so that each sends a byte a second.
    fn trickle(&mut self) {
        self.turn += 1;
        let part = STRANGERS / VISITORS as usize;
        for n in 0..part {
            let (stream, sent) = &mut self.trickling[(self.turn * part + n) % STRANGERS];
            if let Some(mut stream) = stream.as_ref() {
                // Those that were closed fail.
                let _ = stream.write(&TRICKLE[*sent % TRICKLE.len()..][..1]);
                *sent += 1;
            }
        }
    }

    /// One more connects. `None`: it could not.
    fn come(&mut self) -> Option<TcpStream> {
        self.came = self.came.wrapping_add(1);
        let kind = (AddressFamily::INET, SocketType::STREAM);
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(kind.0, kind.1, flags, None).ok()?;
        if self.many {
            // 127.1.0.1 to 127.1.249.250, in turn.
            let n = self.came % (250 * 250);
            let [high, low] = [(n / 250) as u8, (n % 250) as u8 + 1];
            let own = SocketAddrV4::new(Ipv4Addr::new(127, 1, high, low), 0);
            bind(&socket, &own).ok()?;
        }
        match connect(&socket, &self.address) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Some(TcpStream::from(socket)),
            Err(_) => None,
        }
    }
}

fn say(line: &str) {
    println!("{line}");
    let _ = io::stdout().flush();
}
