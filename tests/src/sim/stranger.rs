//! Who has no token and no manners: connects, says something or nothing, and stays.

use std::net::IpAddr;

use super::{
    Context, SECOND, Time,
    dice::Dice,
    link::{End, LinkId, Read, Written},
    server::Server,
};

const WORDS: [&[u8]; 7] = [
    b"",
    b"\x16\x03\x01\x02\x00",
    b"GET /track/s0 HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /track/s0 HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer secre\r\n\r\n",
    b"GET /track/s0 HTTP/1.1\r\nHost: h\r\nAuthorization: Bear",
    b"POST /track/s0 HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999\r\n\r\nxxxxxxxx",
    b"\r\n\r\n\r\n",
];

/// Somebody on the same network.
#[derive(Debug)]
pub(crate) struct Stranger {
    address: IpAddr,
    link: Option<LinkId>,
    connect_at: Time,
    words: &'static [u8],
    /// How often it says them again once something was answered.
    repeats: u64,
    said: usize,
    reads: bool,
    leave_at: Time,
    over: bool,
}

impl Stranger {
    pub(crate) fn new(dice: &mut Dice) -> Self {
        let connect_at = dice.below(20 * SECOND);
        Self {
            // Some of them share an address, or even the one of a paired peer.
            address: IpAddr::from([192, 168, 0, 10 + dice.below(4) as u8]),
            link: None,
            connect_at,
            words: dice.pick(&WORDS),
            repeats: if dice.chance(30) { dice.below(20) } else { 0 },
            said: 0,
            reads: dice.chance(50),
            leave_at: connect_at + dice.below(200 * SECOND),
            over: false,
        }
    }

    pub(crate) const fn wake(&self) -> Option<Time> {
        match self.link {
            _ if self.over => None,
            None => Some(self.connect_at),
            Some(_) => Some(self.leave_at),
        }
    }

    pub(crate) fn step(&mut self, context: &mut Context<'_>, server: &mut Server) -> bool {
        let time = context.time;
        if self.over || time < self.connect_at {
            return false;
        }
        let Some(link) = self.link else {
            self.link = server.connect(context, self.address, 100);
            self.over = self.link.is_none();
            return true;
        };
        let mut moved = false;
        while self.said < self.words.len() {
            let rest = &self.words[self.said..];
            let written = context.links.write(
                link,
                End::Client,
                rest,
                time,
                context.happened,
                context.dice,
            );
            match written {
                Written::Bytes(n) => {
                    self.said += n;
                    moved = true;
                }
                Written::Reset => self.leave_at = time,
                Written::Wait => {}
            }
            if !matches!(written, Written::Bytes(_)) {
                break;
            }
        }
        let mut block = [0; 512];
        if self.reads {
            match context
                .links
                .read(link, End::Client, &mut block, context.dice)
            {
                Read::Bytes(n) => {
                    let text = &block[..n];
                    assert!(!text.starts_with(b"HTTP/1.1 20"), "served a stranger");
                    if self.repeats > 0 {
                        self.repeats -= 1;
                        self.said = 0;
                    }
                    moved = true;
                }
                Read::End | Read::Reset => self.leave_at = time,
                Read::Wait => {}
            }
        }
        if self.leave_at <= time {
            context.links.close(link, End::Client, time, false);
            self.over = true;
            moved = true;
        }
        moved
    }
}
