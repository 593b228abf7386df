//! The driver of one server connection: carries out what the machine in `peer-core` says.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    io,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime},
};

use peer_core::{
    CloseReason, Now, Output, ServerConnection, SourceInfo,
    pace::{Bucket, Priority, Turn},
};
use peer_proto::{
    EntityTag, HttpDate, Validators,
    framing::{CHUNK_PREFIX_BYTES, CHUNK_SUFFIX, write_chunk_size},
};

use crate::{
    callback::call,
    config::{ServerEvent, Transfer, TransferEnd},
    service::{Connection, Counters, Service, count, lock},
    source::{ByteSource, SourceMetadata},
    stream::{Stream, is_timeout},
    token_set::Holder,
};

/// Bytes of the block on the stack, for a head with up to 1 KiB of content or so, in one write.
/// Parsing a head takes more of the stack, so an idle connection keeps no page for it.
const SMALL_BLOCK_BYTES: usize = 1536;

/// Bytes that stand before and behind a block, beside a head.
const AROUND_BYTES_MAX: usize = CHUNK_PREFIX_BYTES + CHUNK_SUFFIX.len();

/// A lent file is sent by the kernel from this many bytes on. For less, the second system call, since
/// the head then goes out by itself, costs more than the copy.
const LENT_BYTES_MIN: u64 = 16 * 1024;

/// Bytes of a lent file to send at a time: after each stretch its version is looked at, and the
/// transfer's progress told.
const LENT_BYTES_MAX: u64 = 1024 * 1024;

/// Socket timeouts are at least this long: zero is refused by std.
const TIMEOUT_MIN: Duration = Duration::from_millis(1);

/// How long an answer to a peer that has not shown the token may wait to be sent. Shorter than
/// [`peer_core::deadline::SUSPENDED`], or its deadline would seem to be noticed by a phone that slept.
const STRANGER_WRITE_MAX: Duration = Duration::from_secs(1);

/// A transfer that waits for its rate limit looks this often whether it was cut.
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// Serves one connection to its end. What ends it for the peer is [`Service::leave`].
pub(crate) fn serve(service: &Service, connection: &Connection) {
    let mut driver = Driver::new(service, connection);
    let end = driver.run();
    let reason = match &end {
        Ok(reason) => TransferEnd::of(*reason),
        Err(_) => TransferEnd::HungUp,
    };
    driver.end_transfer(reason);
    let counters = &service.counters;
    match end {
        Ok(CloseReason::TimedOut(deadline)) => {
            count(&counters.timed_out);
            log::debug!("{}: {deadline:?} deadline passed", connection.address);
        }
        Ok(CloseReason::SourceFailed) => {
            count(&counters.source_failed);
            log::debug!("{}: cut, since its source failed", connection.address);
        }
        Ok(reason) => log::debug!("{}: closed: {reason:?}", connection.address),
        Err(error) => {
            count(&counters.hung_up);
            log::debug!("{}: hung up: {error}", connection.address);
        }
    }
}

/// The transfer that is running, for the event hook and the counters.
struct Running {
    id: u64,
    sent: u64,
    /// What this transfer may send, if that is limited.
    rate: Option<Bucket>,
    priority: Priority,
}

struct Driver<'a> {
    service: &'a Service,
    connection: &'a Connection,
    stream: &'a dyn Stream,
    machine: ServerConnection,
    /// Its date is when the current request was taken up: nothing but its answer is dated.
    now: Now,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
    large: Option<Box<[u8]>>,
    holder: Option<Holder>,
    source: Option<Arc<dyn ByteSource>>,
    /// The version of the source that the answer promises.
    entity_tag: Option<EntityTag>,
    /// The handle, kept for the event hook only.
    handle: String,
    transfer: Option<Running>,
    /// The stream may be able to send from a file: nothing has shown the contrary.
    sends_files: bool,
}

impl<'a> Driver<'a> {
    fn new(service: &'a Service, connection: &'a Connection) -> Self {
        let now = read_clocks();
        Self {
            service,
            connection,
            stream: &*connection.stream,
            machine: ServerConnection::new(service.config.deadlines, random(), now)
                .with_access(service.config.access)
                .with_allowed_origins(service.config.origins.clone()),
            now,
            read_timeout: None,
            write_timeout: None,
            large: None,
            holder: None,
            source: None,
            entity_tag: None,
            handle: String::new(),
            transfer: None,
            sends_files: cfg!(feature = "sendfile"),
        }
    }

    fn run(&mut self) -> io::Result<CloseReason> {
        loop {
            match self.machine.poll_output() {
                Output::Receive => self.receive()?,
                Output::Authorize { .. } => {
                    if self.transfer.is_some() {
                        // It was here before the answer to the one before it went out.
                        self.now = read_clocks();
                    }
                    self.settle();
                    let Output::Authorize { token } = self.machine.poll_output() else {
                        continue;
                    };
                    let foreign = self.machine.foreign();
                    let (authorization, holder) =
                        self.service
                            .authorize(self.connection, token, foreign, self.now.instant);
                    self.holder = holder;
                    self.machine.handle_authorized(self.now, authorization);
                }
                Output::Resolve { .. } => self.resolve(),
                Output::Send { .. } => {
                    self.bound_write()?;
                    self.send_own()?;
                }
                Output::SendSource { .. } => self.send_source()?,
                Output::HalfClose => {
                    self.settle();
                    self.stream.shutdown_write()?;
                    self.machine.handle_half_closed(self.now);
                }
                Output::Close { reason } => return Ok(reason),
            }
        }
    }

    fn receive(&mut self) -> io::Result<()> {
        self.settle();
        if let Some(block) = self.large.take() {
            self.service.blocks.give_back(block);
        }
        if let Some((_, at)) = self.machine.poll_timeout() {
            let left = at.saturating_duration_since(self.now.instant);
            if left.is_zero() {
                // Not left to the socket's timeout: where bytes keep coming, that never ends.
                self.machine.handle_timeout(self.now);
                return Ok(());
            }
            self.bound_read(left)?;
        }
        let waits = self.machine.is_authorized();
        if waits {
            self.service.set_idle(self.connection, self.now.instant);
            // Either this sees that the server drains, or the one who drains it sees this idle.
            if self.service.draining.load(Ordering::SeqCst) {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        } else {
            self.connection.set_heard();
        }
        let received = self.stream.read(self.machine.receive_buffer());
        self.now = read_clocks();
        if waits {
            self.connection.set_busy();
        }
        match received {
            Ok(0) => self.machine.handle_eof(self.now),
            Ok(n) => self.machine.handle_received(self.now, n),
            Err(error) if is_timeout(&error) => self.machine.handle_timeout(self.now),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Bounds the next read by about `left`. A system call for each request is saved by keeping a
    /// bound that is near: waking early costs a round through the loop, waking a little late
    /// nothing.
    fn bound_read(&mut self, left: Duration) -> io::Result<()> {
        let near = |bound: Duration| bound >= left / 2 && bound <= left + left / 4;
        if !self.read_timeout.is_some_and(near) {
            let bound = left.max(TIMEOUT_MIN);
            self.stream.set_read_timeout(Some(bound))?;
            self.read_timeout = Some(bound);
        }
        Ok(())
    }

    /// Bounds the next write. Only a peer with the token may take its time: to a stranger go short
    /// answers, which fit in the socket's buffer unless it reads none of them.
    fn bound_write(&mut self) -> io::Result<()> {
        let stall = self.service.config.deadlines.stall_timeout;
        let bound = if self.machine.is_authorized() {
            stall.max(TIMEOUT_MIN)
        } else {
            stall.clamp(TIMEOUT_MIN, STRANGER_WRITE_MAX)
        };
        if self.write_timeout != Some(bound) {
            self.stream.set_write_timeout(Some(bound))?;
            self.write_timeout = Some(bound);
        }
        Ok(())
    }

    /// Asks the app for the source, and the source what it is. Both may panic.
    fn resolve(&mut self) {
        let Output::Resolve { handle } = self.machine.poll_output() else {
            return;
        };
        count(&self.service.counters.requests);
        if self.service.config.hook.is_some() {
            self.handle.clear();
            self.handle.push_str(handle);
        }
        // Which handles a token opens is the app's word as well.
        let found = call(|| match &self.holder {
            Some(Holder {
                source: Some(source),
                ..
            }) => Some(Arc::clone(source)),
            Some(holder) if holder.allows(handle) => (self.service.resolver)(handle),
            _ => None,
        });
        match found {
            Ok(None) => self.machine.handle_source(self.now, None),
            Ok(Some(source)) => self.open_source(source),
            Err(_) => {
                log::warn!("the resolver, or the limit of a token, panicked");
                self.machine.handle_source_failed(self.now);
            }
        }
    }

    /// Takes what a source gives to read for this answer.
    fn open_source(&mut self, source: Arc<dyn ByteSource>) {
        let reader = call(|| source.reader(&self.connection.cancel));
        self.source = Some(source);
        match reader {
            Ok(Ok(reader)) => {
                if let Some(reader) = reader {
                    self.release_source();
                    self.source = Some(reader);
                    // It may have taken its time.
                    self.now = read_clocks();
                }
                return self.begin_answer();
            }
            Ok(Err(error)) => {
                log::warn!("a source cannot be read: {error}");
                self.release_source();
                if error.kind() == io::ErrorKind::NotFound {
                    return self.machine.handle_source(self.now, None);
                }
            }
            Err(_) => log::warn!("a source panicked"),
        }
        self.machine.handle_source_failed(self.now);
    }

    /// Asks the source what it is. It may panic, like everything of the app's.
    fn begin_answer(&mut self) {
        let Some(source) = &self.source else { return };
        let said = call(|| (source.metadata(), source.content_type()));
        let Ok((
            SourceMetadata {
                len,
                entity_tag,
                last_modified,
            },
            content_type,
        )) = said
        else {
            log::warn!("a source panicked");
            return self.machine.handle_source_failed(self.now);
        };
        let last_modified = last_modified.and_then(HttpDate::new);
        let validators = Validators {
            entity_tag,
            last_modified,
        };
        self.entity_tag = entity_tag;
        let info = SourceInfo {
            complete_length: len,
            content_type,
            validators,
        };
        self.machine.handle_source(self.now, Some(info));
    }

    /// The answer before is out, whole.
    fn settle(&mut self) {
        self.end_transfer(TransferEnd::Complete);
        self.release_source();
    }

    fn release_source(&mut self) {
        if let Some(source) = self.source.take() {
            if call(|| drop(source)).is_err() {
                log::warn!("a source panicked when it was dropped");
            }
        }
    }

    /// Sends the next block of the source, from the file that it lends or from memory.
    fn send_source(&mut self) -> io::Result<()> {
        self.bound_write()?;
        if self.transfer.is_none() {
            self.begin_transfer();
        }
        let step = self.step();
        // A limited rate takes what was read, to the byte.
        if self.sends_files && step == u64::MAX && self.send_lent()? {
            return Ok(());
        }
        let Output::SendSource { prefix, len, .. } = self.machine.poll_output() else {
            return Ok(());
        };
        let room = (SMALL_BLOCK_BYTES - AROUND_BYTES_MAX).saturating_sub(prefix.len());
        if len.is_some_and(|len| len.min(step) <= room as u64) {
            return self.send_block(&mut [0; SMALL_BLOCK_BYTES], step);
        }
        let kept = self.large.take();
        let mut block = kept.unwrap_or_else(|| self.service.blocks.take());
        let sent = self.send_block(&mut block, step);
        self.large = Some(block);
        sent
    }

    /// Fills `block` from the source, with at most `step` bytes of it and what must stand before and
    /// behind them, and sends it.
    fn send_block(&mut self, block: &mut [u8], step: u64) -> io::Result<()> {
        let Output::SendSource {
            prefix,
            offset,
            len,
            chunked,
        } = self.machine.poll_output()
        else {
            return Ok(());
        };
        let Some(source) = &self.source else {
            self.machine.handle_source_failed(self.now);
            return Ok(());
        };
        let (size_line, suffix) = if chunked {
            (CHUNK_PREFIX_BYTES, CHUNK_SUFFIX.len())
        } else {
            (0, 0)
        };
        let lead = prefix.len() + size_line;
        let wanted = len.unwrap_or(u64::MAX).min(step);
        let room = block.len().saturating_sub(lead + suffix);
        let room = usize::try_from(wanted).unwrap_or(usize::MAX).min(room);
        let read = read_source(&**source, offset, &mut block[lead..lead + room]);
        // With each block, before it goes out: whoever stops in the middle has bytes of one version
        // too. One look at a file costs a fraction of reading a block of it.
        let changed =
            read.is_ok() && self.entity_tag.is_some() && !is_version(&**source, self.entity_tag);
        let n = match read {
            Ok(n) if !changed => n,
            Ok(_) => {
                log::warn!("a source changed while it was sent");
                self.fail_source();
                return Ok(());
            }
            Err(error) => {
                log::warn!("a source failed at offset {offset}: {error}");
                self.fail_source();
                return Ok(());
            }
        };
        if n == 0 {
            if len.is_some() {
                log::warn!("a source ended early, at offset {offset}");
                self.fail_source();
            } else {
                self.machine.handle_source_end(self.now);
            }
            return Ok(());
        }
        let mut start = lead;
        let mut end = lead + n;
        if chunked {
            let mut line = [0; CHUNK_PREFIX_BYTES];
            let at = write_chunk_size(&mut line, n as u64);
            start -= CHUNK_PREFIX_BYTES - at;
            block[start..lead].copy_from_slice(&line[at..]);
            block[end..end + suffix].copy_from_slice(CHUNK_SUFFIX);
            end += suffix;
        }
        start -= prefix.len();
        block[start..start + prefix.len()].copy_from_slice(prefix);
        self.now.instant = Instant::now();
        if step < u64::MAX {
            wait_for_rate(
                self.service,
                self.connection,
                &mut self.transfer,
                n as u64,
                &mut self.now,
            )?;
        }
        // Content is counted as it is taken, also of a block whose rest never is.
        let (mut before, mut left) = (lead - start, n);
        let (counters, transfer) = (&self.service.counters, &mut self.transfer);
        let wrote = |bytes: usize| {
            let content = bytes.saturating_sub(before).min(left);
            before = before.saturating_sub(bytes);
            left -= content;
            count_content(counters, transfer, content as u64);
        };
        if !send(
            &mut self.machine,
            &mut self.now,
            self.stream,
            &block[start..end],
            wrote,
        )? {
            return Ok(());
        }
        self.handle_content_sent(n as u64);
        Ok(())
    }

    /// Sends what the machine itself has written: an answer, or the head before content.
    fn send_own(&mut self) -> io::Result<()> {
        self.now.instant = Instant::now();
        self.machine.handle_progress(self.now);
        let mut at = 0;
        loop {
            let (Output::Send { bytes } | Output::SendSource { prefix: bytes, .. }) =
                self.machine.poll_output()
            else {
                // The peer was given up.
                return Ok(());
            };
            let written = self.stream.write(&bytes[at..]);
            if matches!(written, Ok(n) if n >= bytes.len() - at) {
                self.machine.handle_sent(self.now, 0);
                return Ok(());
            }
            at += took(&mut self.machine, &mut self.now, written)?;
        }
    }

    /// Sends the next stretch from the file that the source lends. Returns `false` where there is
    /// none, or its stretch is short.
    ///
    /// The version is looked at after each stretch. Unlike a block that was read, its last one cannot
    /// be held back then: the connection is cut, but the peer may have all it waits for. The crate's
    /// feature says so.
    fn send_lent(&mut self) -> io::Result<bool> {
        let Output::SendSource {
            prefix,
            offset,
            len: Some(len @ LENT_BYTES_MIN..),
            ..
        } = self.machine.poll_output()
        else {
            return Ok(false);
        };
        let Some(source) = &self.source else {
            return Ok(false);
        };
        let file = match call(|| source.file()) {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(false),
            Err(_) => {
                log::warn!("a source panicked");
                self.fail_source();
                return Ok(true);
            }
        };
        if !prefix.is_empty() {
            // By itself: a second look at the source is cheap.
            self.send_own()?;
            return Ok(true);
        }
        match self.stream.send_file(file, offset, len.min(LENT_BYTES_MAX)) {
            Ok(0) => {
                log::warn!("a source ended early, at offset {offset}");
                self.fail_source();
            }
            Ok(n) => {
                count_content(&self.service.counters, &mut self.transfer, n as u64);
                let changed = self.entity_tag.is_some() && !is_version(&**source, self.entity_tag);
                self.now.instant = Instant::now();
                self.machine.handle_progress(self.now);
                if changed {
                    log::warn!("a source changed while it was sent");
                    self.fail_source();
                } else {
                    self.handle_content_sent(n as u64);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if is_timeout(&error) => {
                self.now.instant = Instant::now();
                self.machine.handle_timeout(self.now);
            }
            Err(error) => match error.kind() {
                io::ErrorKind::BrokenPipe
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::NotConnected => return Err(error),
                // Nothing was sent. Whether the stream, the file system or the file cannot, does not
                // show in the error; reading and writing it will.
                _ => self.sends_files = false,
            },
        }
        Ok(true)
    }

    /// So much more content is out, and counted.
    fn handle_content_sent(&mut self, content: u64) {
        self.machine.handle_sent(self.now, content);
        if self.service.config.hook.is_some() {
            self.tell(|transfer, sent| ServerEvent::TransferProgressed { transfer, sent });
        }
    }

    /// The source has failed. Its transfer ends with that, also where the peer still gets a 500 and
    /// the connection goes on.
    fn fail_source(&mut self) {
        self.end_transfer(TransferEnd::SourceFailed);
        self.machine.handle_source_failed(self.now);
    }

    /// Bytes to send at a time: without a rate limit, as many as fit.
    fn step(&self) -> u64 {
        let total = self.service.rate.as_ref().map(|rate| lock(rate).step());
        let rate = self
            .transfer
            .as_ref()
            .and_then(|transfer| transfer.rate.as_ref());
        total
            .unwrap_or(u64::MAX)
            .min(rate.map_or(u64::MAX, Bucket::step))
    }

    fn begin_transfer(&mut self) {
        count(&self.service.counters.transfers);
        count(&self.service.counters.transfers_running);
        let is_limited = self.service.rate.is_some();
        let priority = match &self.source {
            Some(source) if is_limited => call(|| source.priority()).unwrap_or_default(),
            _ => Priority::default(),
        };
        self.transfer = Some(Running {
            id: self.service.next_transfer(),
            sent: 0,
            rate: self.service.config.transfer_rate.map(Bucket::new),
            priority,
        });
        self.tell(|transfer, _| ServerEvent::TransferStarted(transfer));
    }

    fn end_transfer(&mut self, end: TransferEnd) {
        if self.transfer.is_none() {
            return;
        }
        let was_cut = self.connection.cut.load(Ordering::Relaxed);
        let end = match end {
            TransferEnd::HungUp if was_cut => TransferEnd::Cut,
            // The connection was to end with this answer, and did.
            TransferEnd::HungUp if self.is_finished() => TransferEnd::Complete,
            end => end,
        };
        self.tell(|transfer, sent| ServerEvent::TransferEnded {
            transfer,
            sent,
            end,
        });
        self.transfer = None;
        self.service
            .counters
            .transfers_running
            .fetch_sub(1, Ordering::Relaxed);
        if end == TransferEnd::Complete {
            count(&self.service.counters.transfers_complete);
        }
    }

    fn is_finished(&self) -> bool {
        matches!(
            self.machine.poll_output(),
            Output::Close {
                reason: CloseReason::Finished
            }
        )
    }

    fn tell<'e>(&'e self, event: impl FnOnce(Transfer<'e>, u64) -> ServerEvent<'e>) {
        if self.service.config.hook.is_none() {
            return;
        }
        let Some(running) = &self.transfer else {
            return;
        };
        let transfer = Transfer {
            id: running.id,
            token_name: self.holder.as_ref().map_or("", |holder| &holder.name),
            handle: &self.handle,
            address: self.connection.address,
        };
        self.service.tell(&event(transfer, running.sent));
    }
}

impl Drop for Driver<'_> {
    fn drop(&mut self) {
        self.release_source();
        if let Some(block) = self.large.take() {
            self.service.blocks.give_back(block);
        }
    }
}

/// The network has taken so much of a transfer's content.
fn count_content(counters: &Counters, transfer: &mut Option<Running>, content: u64) {
    counters.content_bytes.fetch_add(content, Ordering::Relaxed);
    if let Some(transfer) = transfer {
        transfer.sent += content;
    }
}

/// Writes all of `bytes`, and tells `wrote` what each call took. Returns `false` when the machine has
/// given the peer up instead: its next output says why.
fn send(
    machine: &mut ServerConnection,
    now: &mut Now,
    stream: &dyn Stream,
    mut bytes: &[u8],
    mut wrote: impl FnMut(usize),
) -> io::Result<bool> {
    machine.handle_progress(*now);
    loop {
        let written = stream.write(bytes);
        if matches!(written, Ok(n) if n >= bytes.len()) {
            wrote(bytes.len());
            return Ok(true);
        }
        let n = took(machine, now, written)?;
        wrote(n);
        bytes = &bytes[n..];
        if matches!(machine.poll_output(), Output::Close { .. }) {
            return Ok(false);
        }
    }
}

/// Tells the machine of a write that took a part, or nothing yet. Returns how much.
fn took(
    machine: &mut ServerConnection,
    now: &mut Now,
    written: io::Result<usize>,
) -> io::Result<usize> {
    match written {
        Ok(0) => Err(io::ErrorKind::WriteZero.into()),
        Ok(n) => {
            now.instant = Instant::now();
            machine.handle_progress(*now);
            Ok(n)
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
        Err(error) if is_timeout(&error) && machine.is_authorized() => {
            now.instant = Instant::now();
            machine.handle_timeout(*now);
            Ok(0)
        }
        Err(error) => Err(error),
    }
}

/// Waits until the rate limits let `bytes` pass. Ends early, with an error, when the connection was
/// cut in the meantime.
fn wait_for_rate(
    service: &Service,
    connection: &Connection,
    transfer: &mut Option<Running>,
    bytes: u64,
    now: &mut Now,
) -> io::Result<()> {
    let Some(transfer) = transfer else {
        return Ok(());
    };
    // First what is its own: what all share is taken when it can be used.
    if let Some(own) = &mut transfer.rate {
        let mut take = |now, since| own.take(now, bytes, Priority::Playback, since);
        wait_for_turn(service, connection, &mut take, now)?;
    }
    if let Some(total) = &service.rate {
        let mut take = |now, since| lock(total).take(now, bytes, transfer.priority, since);
        wait_for_turn(service, connection, &mut take, now)?;
    }
    Ok(())
}

fn wait_for_turn(
    service: &Service,
    connection: &Connection,
    take: &mut dyn FnMut(Instant, Instant) -> Turn,
    now: &mut Now,
) -> io::Result<()> {
    let since = now.instant;
    loop {
        let turn = take(now.instant, since);
        let (Turn::Send(mut left) | Turn::Ask(mut left)) = turn;
        while !left.is_zero() {
            let pause = left.min(PAUSE_MAX);
            let is_cut = || connection.cut.load(Ordering::Relaxed);
            if service.wait(Instant::now() + pause, is_cut) {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            let then = std::mem::replace(&mut now.instant, Instant::now());
            left = left.saturating_sub(now.instant.saturating_duration_since(then));
        }
        if matches!(turn, Turn::Send(_)) {
            return Ok(());
        }
    }
}

/// Reads a block of an app's source, which may panic and may lie.
fn read_source(source: &dyn ByteSource, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
    loop {
        match call(|| source.read_at(offset, buf)) {
            Ok(Ok(n)) if n <= buf.len() => return Ok(n),
            Ok(Ok(_)) => {
                return Err(io::Error::other(
                    "it claims more bytes than there was room for",
                ));
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(io::Error::other("it panicked")),
        }
    }
}

/// Whether the source still is the version that was promised.
fn is_version(source: &dyn ByteSource, promised: Option<EntityTag>) -> bool {
    call(|| source.entity_tag()).is_ok_and(|tag| tag == promised)
}

pub(crate) fn read_clocks() -> Now {
    Now::new(Instant::now(), SystemTime::now())
}

/// Bits that nobody can guess, from the keys that std seeds its hash maps with.
fn random() -> u128 {
    let half = || u128::from(RandomState::new().build_hasher().finish());
    (half() << 64) | half()
}
