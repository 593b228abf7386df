//! The serving host: the real machine for each connection, the real admission decisions, and a
//! process that may restart, be suspended, or revoke its token.

use std::net::IpAddr;

use peer_core::{
    Authorization, Output, ServerConfig, ServerConnection,
    admission::{self, Decision, Holder, Limits, Standing},
};
use peer_proto::{EntityTag, framing::write_chunk_size};

use super::{
    Context, SECOND, Time,
    dice::Dice,
    instant,
    link::{End, LinkId, Read, Written},
    now,
    source::{Source, SourceRead},
    time_of,
};

/// The token that is valid until it is revoked.
pub(crate) const TOKEN: &[u8] = b"secret";

/// The serving host.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) sources: Vec<Source>,
    config: ServerConfig,
    limits: Limits,
    block: u64,
    connections: Vec<Connection>,
    accepted: u64,
    idled: u64,
    /// Stretches in which nobody listens; the process is another one behind each.
    down: Option<(Time, Time)>,
    was_down: bool,
    suspended: Option<(Time, Time)>,
    pub(crate) revoked_at: Option<Time>,
    revoked: bool,
}

#[derive(Debug)]
struct Connection {
    link: LinkId,
    machine: ServerConnection,
    address: IpAddr,
    standing: Standing,
    arrival: u64,
    /// Bytes to write, and how many of the source's are among them.
    pending: Vec<u8>,
    written: usize,
    pending_content: u64,
    blocked_until: Time,
    block_is_over: bool,
    source: Option<usize>,
    promised: Option<EntityTag>,
    over: bool,
}

impl Server {
    pub(crate) fn new(dice: &mut Dice, calm: bool) -> Self {
        let sources = (0..1 + dice.below(3))
            .map(|_| Source::new(dice, calm))
            .collect();
        let span = |dice: &mut Dice, percent, longest: u64| {
            (!calm && dice.chance(percent)).then(|| {
                let from = dice.below(30 * SECOND);
                (from, from + 1 + dice.below(longest * SECOND))
            })
        };
        let limits = if calm || dice.chance(50) {
            Limits::default()
        } else {
            Limits {
                strangers: 1 + dice.below(5) as usize,
                strangers_per_address: 1 + dice.below(5) as usize,
                paired: 1 + dice.below(5) as usize,
                paired_per_address: 1 + dice.below(5) as usize,
            }
        };
        Self {
            sources,
            config: ServerConfig::default(),
            limits,
            block: dice.pick(&[65_536, 4096, 1000, 13]),
            connections: Vec::new(),
            accepted: 0,
            idled: 0,
            down: span(dice, 15, 20),
            was_down: false,
            suspended: span(dice, 10, 4000),
            revoked_at: (!calm && dice.chance(7)).then(|| dice.below(30 * SECOND)),
            revoked: false,
        }
    }

    /// A connection from `address`; `None` when it is refused.
    pub(crate) fn connect(
        &mut self,
        context: &mut Context<'_>,
        address: IpAddr,
        latency: Time,
    ) -> Option<LinkId> {
        if self.is_down(context.time) {
            context.happened.restarted = true;
            return None;
        }
        let link = context.links.open(latency, context.dice);
        match admission::admit_stranger(&self.limits, address, &self.holders()) {
            Decision::Admit => {}
            Decision::Replace(arrival) => self.evict(context, arrival, true),
            Decision::Refuse => panic!("the newest gets in"),
        }
        self.accepted += 1;
        let random = u128::from(self.accepted);
        self.connections.push(Connection {
            link,
            machine: ServerConnection::new(self.config, random, now(context.time)),
            address,
            standing: Standing::Stranger { heard: true },
            arrival: self.accepted,
            pending: Vec::new(),
            written: 0,
            pending_content: 0,
            blocked_until: 0,
            block_is_over: false,
            source: None,
            promised: None,
            over: false,
        });
        let strangers = self.count(Standing::is_stranger);
        assert!(strangers <= self.limits.strangers, "{strangers} strangers");
        Some(link)
    }

    fn count(&self, counts: impl Fn(Standing) -> bool) -> usize {
        let open = self.connections.iter().filter(|one| !one.over);
        open.filter(|one| counts(one.standing)).count()
    }

    fn holders(&self) -> Vec<Holder> {
        let open = self.connections.iter().filter(|one| !one.over);
        open.map(|one| Holder {
            address: one.address,
            standing: one.standing,
            arrival: one.arrival,
        })
        .collect()
    }

    fn evict(&mut self, context: &mut Context<'_>, arrival: u64, for_stranger: bool) {
        let evicted = self
            .connections
            .iter_mut()
            .find(|one| one.arrival == arrival && !one.over)
            .expect("somebody who is there");
        match evicted.standing {
            Standing::Stranger { .. } => assert!(for_stranger, "a paired peer pays with its like"),
            Standing::Idle(_) => assert!(!for_stranger, "a stranger pushed a paired peer out"),
            Standing::Busy => panic!("a transfer was pushed out"),
        }
        context.happened.evicted = true;
        evicted.over = true;
        context
            .links
            .close(evicted.link, End::Server, context.time, true);
    }

    fn is_down(&self, time: Time) -> bool {
        self.down
            .is_some_and(|(from, until)| (from..until).contains(&time))
    }

    fn is_suspended(&self, time: Time) -> bool {
        self.suspended
            .is_some_and(|(from, until)| (from..until).contains(&time))
    }

    pub(crate) fn step(&mut self, context: &mut Context<'_>) -> bool {
        let time = context.time;
        let mut moved = false;
        if self.is_down(time) && !self.was_down {
            self.was_down = true;
            context.happened.restarted = true;
            context.trace(|| "server: down".to_owned());
            moved |= self.drop_all(context, |_| true);
        }
        if self.is_suspended(time) {
            context.happened.suspended = true;
            return moved;
        }
        if self.revoked_at.is_some_and(|at| at <= time) && !self.revoked {
            self.revoked = true;
            context.happened.revoked = true;
            context.trace(|| "server: token revoked".to_owned());
            moved |= self.drop_all(context, |one| !one.standing.is_stranger());
        }
        for index in 0..self.connections.len() {
            moved |= self.step_connection(index, context);
        }
        self.connections.retain(|one| !one.over);
        moved
    }

    fn drop_all(&mut self, context: &mut Context<'_>, which: impl Fn(&Connection) -> bool) -> bool {
        let mut dropped = false;
        for one in self.connections.iter_mut().filter(|one| !one.over) {
            if which(one) {
                one.over = true;
                dropped = true;
                context
                    .links
                    .close(one.link, End::Server, context.time, true);
            }
        }
        dropped
    }

    /// Carries out instructions until it has to wait. Whether anything happened.
    fn step_connection(&mut self, index: usize, context: &mut Context<'_>) -> bool {
        let mut moved = false;
        let time = context.time;
        loop {
            let one = &mut self.connections[index];
            if one.over || one.blocked_until > time {
                return moved;
            }
            if one.written < one.pending.len() {
                let rest = &one.pending[one.written..];
                let written = context.links.write(
                    one.link,
                    End::Server,
                    rest,
                    time,
                    context.happened,
                    context.dice,
                );
                match written {
                    Written::Bytes(n) => {
                        one.written += n;
                        one.machine.handle_progress(now(time));
                        if one.written == one.pending.len() {
                            one.pending.clear();
                            one.written = 0;
                            one.machine.handle_sent(now(time), one.pending_content);
                        }
                    }
                    Written::Reset => one.end(context, true),
                    Written::Wait if is_due(&one.machine, time) => {
                        one.machine.handle_timeout(now(time));
                        if matches!(one.machine.poll_output(), Output::Close { .. }) {
                            one.pending.clear();
                        }
                    }
                    Written::Wait => return moved,
                }
                moved = true;
                continue;
            }
            match one.machine.poll_output() {
                Output::Receive => {
                    one.source = None;
                    if one.machine.is_authorized() && !matches!(one.standing, Standing::Idle(_)) {
                        self.idled += 1;
                        one.standing = Standing::Idle(self.idled);
                    }
                    let buffer = one.machine.receive_buffer();
                    match context
                        .links
                        .read(one.link, End::Server, buffer, context.dice)
                    {
                        Read::Bytes(n) => {
                            if one.machine.is_authorized() {
                                one.standing = Standing::Busy;
                            }
                            one.machine.handle_received(now(time), n);
                        }
                        Read::End => one.machine.handle_eof(now(time)),
                        Read::Reset => one.end(context, true),
                        Read::Wait if is_due(&one.machine, time) => {
                            one.machine.handle_timeout(now(time));
                        }
                        Read::Wait => return moved,
                    }
                }
                Output::Authorize { token } => {
                    let valid = token == TOKEN && !self.revoked;
                    let authorization = self.authorize(index, valid, context);
                    let one = &mut self.connections[index];
                    one.machine.handle_authorized(now(time), authorization);
                }
                Output::Resolve { handle } => {
                    let source = handle
                        .strip_prefix("s")
                        .and_then(|number| number.parse::<usize>().ok())
                        .filter(|&number| number < self.sources.len());
                    one.source = source;
                    let info = source.map(|source| self.sources[source].info(time));
                    one.promised = info.as_ref().and_then(|info| info.validators.entity_tag);
                    one.machine.handle_source(now(time), info);
                }
                Output::Send { bytes } => {
                    one.pending.extend_from_slice(bytes);
                    one.pending_content = 0;
                }
                Output::SendSource { .. } => {
                    let source = one.source.expect("resolved");
                    if !one.read_block(&self.sources[source], self.block, context) {
                        return true;
                    }
                }
                Output::HalfClose => {
                    context.links.shut(one.link, End::Server, time);
                    one.machine.handle_half_closed(now(time));
                }
                Output::Close { reason } => {
                    context.trace(|| format!("server: {} closes: {reason:?}", one.arrival));
                    let cut = reason == peer_core::CloseReason::SourceFailed;
                    one.end(context, cut);
                }
            }
            moved = true;
        }
    }

    fn authorize(&mut self, index: usize, valid: bool, context: &mut Context<'_>) -> Authorization {
        if !valid {
            return Authorization::Denied;
        }
        if self.connections[index].standing.is_stranger() {
            let address = self.connections[index].address;
            match admission::admit_paired(&self.limits, address, &self.holders()) {
                Decision::Admit => {}
                Decision::Replace(arrival) => self.evict(context, arrival, false),
                Decision::Refuse => {
                    context.happened.evicted = true;
                    return Authorization::Overloaded;
                }
            }
        }
        self.connections[index].standing = Standing::Busy;
        let paired = self.count(|standing| !standing.is_stranger());
        assert!(paired <= self.limits.paired, "{paired} paired connections");
        Authorization::Granted
    }

    pub(crate) fn wake(&self) -> Vec<Time> {
        let mut wakes: Vec<Time> = self.connections.iter().flat_map(Connection::wake).collect();
        if let Some((_, until)) = self.suspended {
            // Whatever is due in between is late.
            for wake in &mut wakes {
                if self.is_suspended(*wake) {
                    *wake = until;
                }
            }
            if !wakes.is_empty() {
                wakes.push(until);
            }
        }
        if !self.connections.is_empty() {
            wakes.extend(self.down.map(|(from, _)| from));
            wakes.extend(self.revoked_at);
        }
        wakes
    }

    pub(crate) fn assert_over(&self) {
        let left = self.connections.first();
        let waits_for = left.map(|one| one.machine.poll_output());
        assert_eq!(waits_for, None, "a connection that nobody ends");
    }
}

fn is_due(machine: &ServerConnection, time: Time) -> bool {
    machine
        .poll_timeout()
        .is_some_and(|(_, at)| at <= instant(time))
}

impl Connection {
    fn end(&mut self, context: &mut Context<'_>, abort: bool) {
        self.over = true;
        context
            .links
            .close(self.link, End::Server, context.time, abort);
    }

    fn wake(&self) -> impl Iterator<Item = Time> + use<> {
        let timeout = self.machine.poll_timeout().map(|(_, at)| time_of(at));
        [timeout, Some(self.blocked_until)].into_iter().flatten()
    }

    /// Reads a block of the source to be written, as the driver does. `false`: it takes a while.
    fn read_block(&mut self, source: &Source, block: u64, context: &mut Context<'_>) -> bool {
        let time = context.time;
        let Output::SendSource {
            prefix,
            offset,
            len,
            chunked,
        } = self.machine.poll_output()
        else {
            return true;
        };
        let pause = source.blocks(time, context.happened);
        if pause > 0 && !self.block_is_over {
            self.block_is_over = true;
            self.blocked_until = time + pause;
            return false;
        }
        self.block_is_over = false;
        let mut buf = vec![0; len.unwrap_or(block).min(block) as usize];
        let read = source.read(time, offset, &mut buf, context.happened);
        let changed = self.promised.is_some() && source.entity_tag(time) != self.promised;
        match read {
            SourceRead::Failed => self.machine.handle_source_failed(now(time)),
            _ if changed => {
                context.happened.changed = true;
                self.machine.handle_source_failed(now(time));
            }
            SourceRead::End => self.machine.handle_source_end(now(time)),
            SourceRead::Bytes(n) => {
                self.pending.extend_from_slice(prefix);
                if chunked {
                    let mut line = [0; peer_proto::framing::CHUNK_PREFIX_BYTES];
                    let at = write_chunk_size(&mut line, n as u64);
                    self.pending.extend_from_slice(&line[at..]);
                }
                self.pending.extend_from_slice(&buf[..n]);
                if chunked {
                    self.pending.extend_from_slice(b"\r\n");
                }
                self.pending_content = n as u64;
                self.machine.handle_progress(now(time));
            }
        }
        true
    }
}
