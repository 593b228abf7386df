//! A client that costs little itself: it asks, counts, and checks what comes.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use rustix::{
    event::{
        Timespec,
        epoll::{self, CreateFlags, Event, EventData, EventFlags},
    },
    net::{RecvFlags, recv},
};
use serde_json::json;

use crate::{
    content::{self, TOKEN},
    cpu::{self, Threads},
};

/// Bytes of the range by which a connection is tried before it is measured.
const SMALL_RANGE: u64 = 1024;

/// A server that says nothing for so long has forgotten somebody.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// What is asked for, and how it is read.
#[derive(Clone)]
pub(crate) struct Work {
    /// Connections at the same time.
    pub(crate) connections: usize,
    /// Bytes of each range.
    pub(crate) range: u64,
    /// Bytes of what the ranges are of.
    pub(crate) total: u64,
    /// Where every range starts; none: all over it.
    pub(crate) from: Option<u64>,
    /// Content is dropped by the kernel instead of being copied out.
    pub(crate) discard: bool,
    /// Each request has a connection of its own.
    pub(crate) connect: bool,
    /// Requests are begun for this long, and at least one is.
    pub(crate) time: Duration,
    /// Every byte is compared, instead of both ends of each range.
    pub(crate) verify: bool,
}

impl Work {
    /// The words that `load` takes.
    pub(crate) fn words(&self) -> Vec<String> {
        vec![
            format!("connections={}", self.connections),
            format!("range={}", self.range),
            format!("total={}", self.total),
            format!(
                "from={}",
                self.from.map_or(String::new(), |from| from.to_string())
            ),
            format!("discard={}", self.discard),
            format!("connect={}", self.connect),
            format!("milliseconds={}", self.time.as_millis()),
            format!("verify={}", self.verify),
        ]
    }
}

/// What one run came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) requests: u64,
    pub(crate) seconds: f64,
    pub(crate) client_cpu: f64,
    pub(crate) server_cpu: f64,
    pub(crate) busy: f64,
    /// How often a thread of the server had to wait: voluntary context switches.
    pub(crate) waits: f64,
}

/// `load address=… path=… pids=… cpus=…` and the words of [`Work`].
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let word = |name: &str| {
        let found = arguments
            .iter()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        found.ok_or(format!("{name}=… is missing"))
    };
    fn parse<T: std::str::FromStr>(word: &str) -> Result<T, String> {
        word.parse().map_err(|_| format!("`{word}` is no value"))
    }
    fn list<T: std::str::FromStr>(word: &str) -> Result<Vec<T>, String> {
        word.split(',')
            .filter(|w| !w.is_empty())
            .map(parse)
            .collect()
    }
    let work = Work {
        connections: parse(word("connections")?)?,
        range: parse(word("range")?)?,
        total: parse(word("total")?)?,
        from: list(word("from")?)?.first().copied(),
        discard: parse(word("discard")?)?,
        connect: parse(word("connect")?)?,
        time: Duration::from_millis(parse(word("milliseconds")?)?),
        verify: parse(word("verify")?)?,
    };
    let servers: Vec<u32> = list(word("pids")?)?;
    let cpus: Vec<usize> = list(word("cpus")?)?;
    let address: SocketAddr = parse(word("address")?)?;
    let asking = Asking {
        path: word("path")?.to_owned(),
        address,
        work,
    };
    let own = [std::process::id()];
    let read = || {
        (
            Threads::read(&own),
            Threads::read(&servers),
            cpu::busy(&cpus),
        )
    };
    let mut conversations = asking.begin().map_err(|error| error.to_string())?;
    let before = read();
    let start = Instant::now();
    let requests = asking
        .run(&mut conversations)
        .map_err(|error| error.to_string())?;
    let seconds = start.elapsed().as_secs_f64();
    let after = read();
    // Only now: the threads that served them should still be there to be asked.
    drop(conversations);
    let figures = json!({
        "requests": requests,
        "seconds": seconds,
        "client_cpu": after.0.since(&before.0),
        "server_cpu": after.1.since(&before.1),
        "busy": after.2 - before.2,
        "waits": after.1.waits_since(&before.1),
    });
    println!("{figures}");
    Ok(())
}

/// Who is asked for what.
pub(crate) struct Asking {
    pub(crate) path: String,
    pub(crate) address: SocketAddr,
    pub(crate) work: Work,
}

impl Asking {
    /// Connects, and takes a small answer over each connection: what connections cost is no part of
    /// the work. Where each request has its own it is, and they are yet to be made.
    pub(crate) fn begin(&self) -> io::Result<Vec<Conversation>> {
        if self.work.connect {
            return Ok(Vec::new());
        }
        let answered = |number| {
            let mut conversation = Conversation::start(self, number)?;
            conversation.ask(self, self.work.range.min(SMALL_RANGE))?;
            while !conversation.receive(self)? {}
            Ok(conversation)
        };
        (0..self.work.connections as u64).map(answered).collect()
    }

    fn run(&self, conversations: &mut Vec<Conversation>) -> io::Result<u64> {
        let end = Instant::now() + self.work.time;
        for number in 0..self.work.connections {
            if self.work.connect {
                conversations.push(Conversation::start(self, number as u64)?);
            }
            conversations[number].ask(self, self.work.range)?;
        }
        match &mut conversations[..] {
            [only] => self.alone(only, end),
            all => self.together(all, end),
        }
    }

    /// One connection: it may block.
    fn alone(&self, conversation: &mut Conversation, end: Instant) -> io::Result<u64> {
        let mut requests = 0;
        loop {
            while !conversation.receive(self)? {}
            requests += 1;
            if Instant::now() >= end {
                return Ok(requests);
            }
            conversation.next(self)?;
        }
    }

    /// Several: whichever has something to say.
    fn together(&self, all: &mut [Conversation], end: Instant) -> io::Result<u64> {
        let poll = epoll::create(CreateFlags::CLOEXEC)?;
        let watch = |index: usize, stream: &TcpStream| {
            stream.set_nonblocking(true)?;
            let token = EventData::new_u64(index as u64);
            epoll::add(&poll, stream, token, EventFlags::IN)?;
            io::Result::Ok(())
        };
        for (index, conversation) in all.iter().enumerate() {
            watch(index, &conversation.stream)?;
        }
        let silence = Timespec {
            tv_sec: SILENCE_MAX.as_secs() as i64,
            tv_nsec: 0,
        };
        let mut requests = 0;
        let mut running = all.len();
        let mut events = [Event {
            flags: EventFlags::empty(),
            data: EventData::new_u64(0),
        }; 256];
        while running > 0 {
            let ready = epoll::wait(&poll, &mut events[..], Some(&silence))?;
            if ready == 0 {
                let silent = format!("{running} of {} requests got no answer", all.len());
                return Err(io::Error::other(silent));
            }
            let is_over = Instant::now() >= end;
            for event in &events[..ready] {
                let index = event.data.u64() as usize;
                let conversation = &mut all[index];
                match conversation.receive(self) {
                    Ok(false) => {}
                    Ok(true) if is_over => {
                        requests += 1;
                        running -= 1;
                        // It would be ready for ever.
                        epoll::delete(&poll, &conversation.stream)?;
                    }
                    Ok(true) => {
                        requests += 1;
                        conversation.next(self)?;
                        if self.work.connect {
                            watch(index, &conversation.stream)?;
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(requests)
    }
}

/// A connection, and the one request that is under way on it.
pub(crate) struct Conversation {
    stream: TcpStream,
    request: Vec<u8>,
    block: Vec<u8>,
    /// Where the next range starts, in ranges.
    place: u64,
    offset: u64,
    /// Bytes of the range that is asked for.
    range: u64,
    /// Bytes of the head, once it is there.
    head: Option<usize>,
    /// Bytes in `block` before the head is complete.
    filled: usize,
    /// Content bytes that have come.
    content: u64,
}

impl Conversation {
    fn start(asking: &Asking, number: u64) -> io::Result<Self> {
        // A whole file passes through a block that stays in the cache; a range fits into one.
        let block = (asking.work.range as usize + 1024).min(256 * 1024);
        Ok(Self {
            stream: connect(asking)?,
            request: Vec::new(),
            block: vec![0; block],
            place: number * 7919,
            offset: 0,
            range: 0,
            head: None,
            filled: 0,
            content: 0,
        })
    }

    fn next(&mut self, asking: &Asking) -> io::Result<()> {
        if asking.work.connect {
            self.stream = connect(asking)?;
        }
        self.ask(asking, asking.work.range)
    }

    fn ask(&mut self, asking: &Asking, range: u64) -> io::Result<()> {
        let places = asking.work.total / range;
        self.place += 7919;
        self.offset = match asking.work.from {
            Some(from) => from,
            None => self.place % places * range,
        };
        self.range = range;
        (self.head, self.filled, self.content) = (None, 0, 0);
        self.request.clear();
        let connection = if asking.work.connect {
            "Connection: close\r\n"
        } else {
            ""
        };
        write!(
            self.request,
            "GET {} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {TOKEN}\r\n\
             Range: bytes={}-{}\r\n{connection}\r\n",
            asking.path,
            asking.address,
            self.offset,
            self.offset + range - 1,
        )?;
        // Smaller than any send buffer, and that is empty.
        let sent = self.stream.write(&self.request)?;
        if sent < self.request.len() {
            return Err(io::Error::other("a request was not taken whole"));
        }
        Ok(())
    }

    /// Receives once. Returns whether the answer is complete.
    fn receive(&mut self, asking: &Asking) -> io::Result<bool> {
        let range = self.range;
        if self.head.is_some() && self.content == range {
            // Only the connection's end is missing.
            return match self.stream.read(&mut self.block)? {
                0 => Ok(true),
                _ => Err(io::Error::other("more came than was asked for")),
            };
        }
        if self.head.is_none() {
            let room = if asking.work.discard {
                512
            } else {
                self.block.len()
            };
            let n = self.stream.read(&mut self.block[self.filled..room])?;
            self.filled += n;
            if n == 0 {
                return Err(io::Error::other("the connection ended inside a head"));
            }
            let bytes = &self.block[..self.filled];
            let end = bytes.windows(4).position(|bytes| bytes == b"\r\n\r\n");
            let Some(end) = end.map(|end| end + 4) else {
                return Ok(false);
            };
            self.check_head(&bytes[..end], asking)?;
            self.head = Some(end);
            let content = (end, self.filled);
            return self.take(content, asking);
        }
        let left = (range - self.content).min(self.block.len() as u64) as usize;
        if asking.work.discard {
            let block = &mut self.block[..left];
            let (_, n) = recv(&self.stream, block, RecvFlags::TRUNC)?;
            if n == 0 {
                return Err(io::Error::other("the connection ended inside the content"));
            }
            self.content += n as u64;
            return Ok(self.content == range && !asking.work.connect);
        }
        let n = self.stream.read(&mut self.block[..left])?;
        if n == 0 {
            return Err(io::Error::other("the connection ended inside the content"));
        }
        self.take((0, n), asking)
    }

    /// Takes content that stands here in the block.
    fn take(&mut self, (start, end): (usize, usize), asking: &Asking) -> io::Result<bool> {
        let bytes = &self.block[start..end];
        let offset = self.offset + self.content;
        let edge = bytes.len().min(16);
        let is_right = if asking.work.verify {
            content::is_at(bytes, offset)
        } else {
            let last = bytes.len() - edge;
            content::is_at(&bytes[..edge], offset)
                && content::is_at(&bytes[last..], offset + last as u64)
        };
        self.content += bytes.len() as u64;
        if !is_right || self.content > self.range {
            return Err(io::Error::other(format!("wrong bytes at {offset}")));
        }
        Ok(self.content == self.range && !asking.work.connect)
    }

    fn check_head(&self, head: &[u8], asking: &Asking) -> io::Result<()> {
        let is_partial = head.starts_with(b"HTTP/1.1 206 ");
        let is_right = is_partial
            && (!asking.work.verify || {
                let head = String::from_utf8_lossy(head).to_ascii_lowercase();
                let last = self.offset + self.range - 1;
                head.contains(&format!(
                    "\r\ncontent-range: bytes {}-{last}/{}\r\n",
                    self.offset, asking.work.total
                )) && head.contains(&format!("\r\ncontent-length: {}\r\n", self.range))
            });
        if is_right {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "not the answer: {}",
            String::from_utf8_lossy(head)
        )))
    }
}

fn connect(asking: &Asking) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(asking.address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    Ok(stream)
}
