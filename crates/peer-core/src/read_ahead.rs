//! What a reader asks for, keeps and drops: random access over ranges, without the ranges.
//!
//! A reader works in blocks of one size. Some are kept in slots; the least recently used one makes
//! room for the next. Blocks come over lanes: requests that are open, each at a place of its own.
//! One reader has two, so that a demuxer's hop to the end of a file and back goes on where it left
//! off. A place that a lane will reach soon is waited for; how soon is soon follows from what a new
//! request costs, as measured.
//!
//! What is kept is not asked for again, unless going round it costs more: where reading goes on and
//! on, a request goes on over short stretches of kept blocks, so that what seeking has left behind
//! does not chop it into a request for each gap.
//!
//! Several readers may share one policy, each on a thread of its own. Whoever needs what a lane
//! brings takes the lane ([`handle_taken`](ReadAhead::handle_taken)) and is alone with it until it
//! states what came; the others are told to [wait](ReadStep::Wait), so that nothing is fetched
//! twice. A lane that its readers have [left](ReadAhead::handle_left) stays open for one that comes
//! back, until another place is asked for.

use std::time::Duration;

/// A request may ask for this part of itself although it is kept.
const AGAIN_PART: u64 = 4;

/// Largest block, in bytes.
const BLOCK_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Most blocks, and most requests: what is looked for is looked for in all of them.
const BLOCKS_MAX: usize = 64 * 1024;
const REQUESTS_MAX: usize = 64;

/// The sizes a reader works with. What is out of range is taken for the nearest that is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadAheadConfig {
    /// Bytes of a block: what is received at a time. 64 KiB unless set; from 1 byte to 16 MiB.
    pub block_bytes: usize,
    /// Blocks kept. 64 unless set; at least 2 and more than `requests`, at most 65,536.
    pub blocks: usize,
    /// Bytes asked for at a new place, in whole blocks. 512 KiB unless set.
    pub request_bytes_min: u64,
    /// Bytes asked for where reading goes on and on: four times as many as were read on so far, up
    /// to this. 8 MiB unless set.
    pub request_bytes_max: u64,
    /// Requests open at a time. 2 unless set; from 1 to 64.
    pub requests: usize,
}

impl Default for ReadAheadConfig {
    fn default() -> Self {
        Self {
            block_bytes: 64 * 1024,
            blocks: 64,
            request_bytes_min: 512 * 1024,
            request_bytes_max: 8 * 1024 * 1024,
            requests: 2,
        }
    }
}

/// What to do next to read at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadStep {
    /// The bytes are here, then [`ReadAhead::handle_served`].
    Serve {
        /// The slot that holds them.
        slot: usize,
        /// Where in the slot they begin.
        offset: usize,
        /// How many there are, at least one.
        len: usize,
    },
    /// Receive into a slot, at most until it is full, then [`ReadAhead::handle_received`].
    Receive {
        /// The lane to receive from.
        lane: usize,
        /// The slot to receive into.
        slot: usize,
        /// Where in the slot the next byte belongs.
        offset: usize,
    },
    /// Drop what the lane was at, and ask for a range over it, then
    /// [`ReadAhead::handle_opened`].
    Open {
        /// The lane.
        lane: usize,
        /// Offset of the first byte.
        start: u64,
        /// How many bytes; `None`: to the end.
        len: Option<u64>,
    },
    /// Another reader is at it: poll again when a lane was stated to have received, to be open or
    /// to be closed.
    Wait {
        /// The lane that brings it; `None`: all of them are taken.
        lane: Option<usize>,
    },
    /// The position is at the end, or behind it.
    End,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// Number of the block, if it holds one.
    block: Option<u64>,
    len: usize,
    used: u64,
}

#[derive(Clone, Debug, Default)]
struct Lane {
    /// Offset of the next byte that comes.
    next: u64,
    /// Offset behind the last; `None`: not known.
    end: Option<u64>,
    /// Bytes last asked for; 0 before the first request.
    window: u64,
    /// Where the reading on began that led to this request.
    begun: u64,
    open: bool,
    used: u64,
    /// The slot that holds the first part of the block that `next` lies in.
    slot: Option<usize>,
    /// Somebody is receiving from it, or opening it.
    taken: bool,
    /// The readers that went by it.
    followers: Vec<u64>,
    /// All of them have left.
    left: bool,
}

impl Lane {
    /// The place of the next byte in its block.
    const fn offset(&self, block_bytes: u64) -> usize {
        (self.next % block_bytes) as usize
    }
}

/// The policy of one reader. See the [module](self).
#[derive(Clone, Debug)]
pub struct ReadAhead {
    config: ReadAheadConfig,
    complete_length: Option<u64>,
    /// An answer did not tell the length.
    untold: bool,
    slots: Vec<Slot>,
    lanes: Vec<Lane>,
    clock: u64,
    /// What a new request costs.
    latency: Duration,
    /// Bytes per second at which blocks come.
    rate: f64,
}

impl ReadAhead {
    /// A reader that holds nothing, of a source whose length is yet to be told.
    #[must_use]
    pub fn new(config: ReadAheadConfig) -> Self {
        let block_bytes = config.block_bytes.clamp(1, BLOCK_BYTES_MAX);
        let requests = config.requests.clamp(1, REQUESTS_MAX);
        let blocks = |bytes: u64| {
            let block = block_bytes as u64;
            (bytes / block).max(1).saturating_mul(block)
        };
        let request_bytes_min = blocks(config.request_bytes_min);
        let config = ReadAheadConfig {
            block_bytes,
            // A lane in the midst of a block keeps its slot, and one more must be free.
            blocks: config.blocks.clamp(requests + 1, BLOCKS_MAX),
            request_bytes_min,
            request_bytes_max: blocks(config.request_bytes_max).max(request_bytes_min),
            requests,
        };
        Self {
            config,
            complete_length: None,
            untold: false,
            slots: vec![Slot::default(); config.blocks],
            lanes: vec![Lane::default(); config.requests],
            clock: 0,
            latency: Duration::ZERO,
            rate: 0.0,
        }
    }

    /// The sizes in use.
    #[must_use]
    pub const fn config(&self) -> &ReadAheadConfig {
        &self.config
    }

    /// Length of the source, if it was told or its end was reached.
    #[must_use]
    pub const fn complete_length(&self) -> Option<u64> {
        self.complete_length
    }

    /// What to do next to read at `position`. Changes only through the `handle_*` methods.
    #[must_use]
    pub fn poll(&self, position: u64) -> ReadStep {
        // No length is greater than the greatest number.
        if position >= self.complete_length.unwrap_or(u64::MAX) {
            return ReadStep::End;
        }
        let block = position / self.block_bytes();
        let offset = (position % self.block_bytes()) as usize;
        let held = self.slot_of(block).map(|slot| (slot, self.slots[slot].len));
        if let Some((slot, len)) = held.filter(|(_, len)| *len > offset) {
            let len = len - offset;
            return ReadStep::Serve { slot, offset, len };
        }
        let start = block * self.block_bytes();
        let near = |lane: &Lane| {
            let comes = lane.open && lane.next <= position;
            let reaches = lane.end.is_none_or(|end| position < end);
            let gap = start.saturating_sub(lane.next);
            let is_near = gap <= self.patience() || self.is_crossing(lane, start);
            (comes && reaches && is_near).then_some(gap)
        };
        let nearest = (0..self.lanes.len())
            .filter_map(|lane| Some((near(&self.lanes[lane])?, lane)))
            .min();
        if let Some((_, lane)) = nearest {
            if self.lanes[lane].taken {
                return ReadStep::Wait { lane: Some(lane) };
            }
            return ReadStep::Receive {
                lane,
                slot: self.slot_for(lane),
                offset: self.lanes[lane].offset(self.block_bytes()),
            };
        }
        // Not what is here already of the block itself.
        let start = start + held.map_or(0, |(_, len)| len as u64);
        let Some(lane) = self.free_lane(start) else {
            return ReadStep::Wait { lane: None };
        };
        if self.untold && self.complete_length.is_none() {
            // Peers serve no ranges of what has no length: all there is is a way from the start.
            return ReadStep::Open {
                lane,
                start: 0,
                len: None,
            };
        }
        ReadStep::Open {
            lane,
            start,
            len: self.window(&self.lanes[lane], start),
        }
    }

    /// States that somebody goes by what [`poll`](Self::poll) said of a lane, and is alone with it
    /// until one of [`handle_received`](Self::handle_received),
    /// [`handle_opened`](Self::handle_opened) and [`handle_closed`](Self::handle_closed). Only for
    /// readers that share.
    pub fn handle_taken(&mut self, step: &ReadStep) {
        match *step {
            ReadStep::Receive { lane, .. } => self.lanes[lane].taken = true,
            ReadStep::Open { lane, start, len } => {
                let used = self.tick();
                let slot = self.partly_held(start);
                self.lanes[lane] = Lane {
                    next: start,
                    end: len.map(|len| start.saturating_add(len)),
                    window: len.unwrap_or(u64::MAX),
                    begun: self.begun(lane, start),
                    open: true,
                    used,
                    slot,
                    taken: true,
                    followers: Vec::new(),
                    left: false,
                };
            }
            _ => {}
        }
    }

    /// States that a reader goes by a lane.
    pub fn handle_followed(&mut self, lane: usize, reader: u64) {
        let lane = &mut self.lanes[lane];
        lane.left = false;
        if !lane.followers.contains(&reader) {
            lane.followers.push(reader);
        }
    }

    /// States that a reader is gone.
    pub fn handle_left(&mut self, reader: u64) {
        for lane in &mut self.lanes {
            if lane.followers.contains(&reader) {
                lane.followers.retain(|follower| *follower != reader);
                lane.left = lane.followers.is_empty();
            }
        }
    }

    /// The lanes that are open for nobody: to be [closed](Self::handle_closed) where another one is
    /// opened.
    pub fn left_lanes(&self) -> impl Iterator<Item = usize> {
        let lanes = self.lanes.iter().enumerate();
        lanes.filter_map(|(index, lane)| (lane.open && lane.left && !lane.taken).then_some(index))
    }

    /// The slot that a lane's next bytes belong in.
    #[must_use]
    pub fn slot_for(&self, lane: usize) -> usize {
        let lane = &self.lanes[lane];
        let held = lane
            .slot
            .or_else(|| self.slot_of(lane.next / self.block_bytes()));
        held.unwrap_or_else(|| self.oldest_slot())
    }

    /// States that bytes of a slot were read.
    pub fn handle_served(&mut self, slot: usize) {
        self.slots[slot].used = self.tick();
    }

    /// States that a lane is open for what [`poll`](Self::poll) said, that the head of its answer
    /// came after `latency`, and what it told of the source's length.
    pub fn handle_opened(
        &mut self,
        lane: usize,
        start: u64,
        len: Option<u64>,
        complete_length: Option<u64>,
        latency: Duration,
    ) {
        // Of a lane that was taken, the slot is known: another lane may have filled it since.
        let slot = match &self.lanes[lane] {
            taken if taken.taken => taken.slot,
            _ => self.partly_held(start),
        };
        assert!(
            start % self.block_bytes() == 0 || slot.is_some(),
            "lanes begin with a block, or where a part of one ends"
        );
        self.complete_length = complete_length.or(self.complete_length);
        let asked = len.map(|len| start.saturating_add(len));
        let end = match (asked, self.complete_length) {
            (Some(asked), Some(length)) => Some(asked.min(length)),
            (asked, length) => asked.or(length),
        };
        self.untold = self.complete_length.is_none();
        // A first part of what has no length leads to no second one.
        let leads_on = len.is_none() || !self.untold;
        let used = self.tick();
        self.lanes[lane] = Lane {
            next: start,
            end,
            window: len.unwrap_or(u64::MAX),
            begun: self.begun(lane, start),
            open: leads_on && end.is_none_or(|end| start < end),
            used,
            slot,
            taken: false,
            followers: std::mem::take(&mut self.lanes[lane].followers),
            left: self.lanes[lane].left,
        };
        self.latency = if self.latency.is_zero() {
            latency
        } else {
            (self.latency * 3 + latency) / 4
        };
    }

    /// States that a lane's next `n` bytes are in a slot, whether they are its last, and how long
    /// they took to come.
    pub fn handle_received(
        &mut self,
        lane: usize,
        slot: usize,
        n: usize,
        is_last: bool,
        elapsed: Duration,
    ) {
        let used = self.tick();
        let block_bytes = self.block_bytes();
        let lane = &mut self.lanes[lane];
        assert!(lane.open, "nothing comes over a closed lane");
        let offset = lane.offset(block_bytes);
        assert!(
            n <= self.config.block_bytes - offset,
            "a slot holds one block"
        );
        let block = lane.next / block_bytes;
        lane.next += n as u64;
        lane.used = used;
        lane.taken = false;
        if is_last && lane.end.is_none() && self.complete_length.is_none() {
            // Nothing else told the length, and the answer is whole.
            self.complete_length = Some(lane.next);
        }
        lane.open = !is_last && lane.end.is_none_or(|end| lane.next < end);
        if n > 0 {
            let held = &mut self.slots[slot];
            let before = if held.block == Some(block) {
                held.len
            } else {
                0
            };
            assert!(offset <= before, "the first part of the block is gone");
            *held = Slot {
                block: Some(block),
                len: before.max(offset + n),
                used,
            };
            lane.slot = (lane.offset(block_bytes) > 0).then_some(slot);
            let rate = n as f64 / elapsed.as_secs_f64().max(1e-6);
            self.rate = if self.rate == 0.0 {
                rate
            } else {
                (self.rate * 3.0 + rate) / 4.0
            };
        }
    }

    /// States that a slot does not hold a block any more.
    pub fn handle_dropped(&mut self, slot: usize) {
        self.slots[slot] = Slot::default();
    }

    /// States that a lane is lost, with everything that was still to come over it.
    pub fn handle_closed(&mut self, lane: usize) {
        self.lanes[lane].open = false;
        self.lanes[lane].taken = false;
    }

    /// States that everything held is dropped and every lane closed. What was learned of the source
    /// and of the way to it stays.
    pub fn handle_forgotten(&mut self) {
        self.slots.fill(Slot::default());
        self.lanes.fill(Lane::default());
    }

    /// Bytes that are rather read past than jumped over: as many as come in the time that a new
    /// request takes.
    fn patience(&self) -> u64 {
        if self.complete_length.is_none() {
            // There is no other way to any place than past everything before it.
            return u64::MAX;
        }
        let bytes = self.rate * self.latency.as_secs_f64();
        let most = self.config.request_bytes_min as f64;
        bytes.clamp(self.block_bytes() as f64, most) as u64
    }

    /// Whether a lane that is to reach `start` is crossing kept blocks, as
    /// [`until_kept`](Self::until_kept) lets it.
    fn is_crossing(&self, lane: &Lane, start: u64) -> bool {
        let gap = start.saturating_sub(lane.next);
        gap <= lane.window / AGAIN_PART && self.is_kept(lane.next, start)
    }

    /// How much to ask for from `start`.
    fn window(&self, lane: &Lane, start: u64) -> Option<u64> {
        let leads_on = self.leads_to(lane, start);
        let window = if leads_on {
            let (min, max) = (self.config.request_bytes_min, self.config.request_bytes_max);
            // A first request may have ended early, at what is kept.
            let read = (start - lane.begun).max(min);
            read.saturating_mul(4).min(max)
        } else {
            self.config.request_bytes_min
        };
        // A lane that begins in the midst of a block ends with one all the same.
        let end = start.saturating_add(window);
        let end = match end - end % self.block_bytes() {
            aligned if aligned > start => aligned,
            // In the last block of all there can be.
            _ => end,
        };
        let end = self.complete_length.map_or(end, |length| end.min(length));
        Some(self.until_kept(start, end, leads_on) - start)
    }

    /// Where a request from `start` to `end` ends so that going on would only bring what is kept.
    ///
    /// Where reading goes on and on, stretches are crossed that cost no more than a new request, or
    /// are a small part of the whole. Elsewhere it is as likely that one look is all: what is not
    /// asked for need not be thrown away with its connection.
    fn until_kept(&self, start: u64, end: u64, leads_on: bool) -> u64 {
        let first = start / self.block_bytes();
        let last = end.div_ceil(self.block_bytes());
        // As they will go: the oldest first, one for each block that comes.
        let mut slots: Vec<_> = self.slots.iter().collect();
        slots.sort_unstable_by_key(|slot| (slot.block.is_some(), slot.used));
        // Of the first block something is missing.
        let mut kept: Vec<_> = (0u64..)
            .zip(slots)
            .filter_map(|(older, slot)| Some((slot.block?, older)))
            .filter(|(block, _)| (first + 1..last).contains(block))
            .collect();
        kept.sort_unstable();
        // Blocks that are kept already among those up to the one looked at.
        let mut again = 0;
        let mut stretch = first..first;
        for (block, older) in kept {
            let new = block - first - again;
            if older < new {
                // It makes room for one of the new ones before reading comes to it.
                continue;
            }
            if stretch.end != block {
                stretch = block..block;
            }
            stretch.end = block + 1;
            again += 1;
            let bytes = (stretch.end - stretch.start).saturating_mul(self.block_bytes());
            let is_little = again.saturating_mul(AGAIN_PART) <= last - first;
            if !leads_on || (bytes > self.patience() && !is_little) {
                return stretch.start * self.block_bytes();
            }
        }
        // Nothing new lies behind a last stretch.
        if stretch.end == last {
            stretch.start * self.block_bytes()
        } else {
            end
        }
    }

    /// The lane that led here, else one that is closed, else one that nobody follows, else the
    /// least recently used. `None`: all are taken.
    fn free_lane(&self, start: u64) -> Option<usize> {
        let key = |index: &usize| {
            let lane = &self.lanes[*index];
            (
                !self.leads_to(lane, start),
                lane.open,
                !lane.left,
                lane.used,
            )
        };
        let free = (0..self.lanes.len()).filter(|lane| !self.lanes[*lane].taken);
        free.min_by_key(key)
    }

    /// Whether a lane brought everything up to `start`, but for what is kept.
    fn leads_to(&self, lane: &Lane, start: u64) -> bool {
        lane.window > 0 && lane.next <= start && self.is_kept(lane.next, start)
    }

    /// Where the reading on began that goes on at `start` over this lane.
    fn begun(&self, lane: usize, start: u64) -> u64 {
        let lane = &self.lanes[lane];
        if self.leads_to(lane, start) {
            lane.begun
        } else {
            start
        }
    }

    /// Whether all blocks from `start` to `end` are kept, in part at least.
    fn is_kept(&self, start: u64, end: u64) -> bool {
        let blocks = start / self.block_bytes()..end.div_ceil(self.block_bytes());
        let kept = self.slots.iter().filter_map(|slot| slot.block);
        let count = kept.filter(|block| blocks.contains(block)).count();
        count as u64 == blocks.end - blocks.start
    }

    /// The slot that holds its block right up to this position.
    fn partly_held(&self, position: u64) -> Option<usize> {
        let slot = self.slot_of(position / self.block_bytes())?;
        let held = self.slots[slot].len as u64;
        (held == position % self.block_bytes()).then_some(slot)
    }

    fn slot_of(&self, block: u64) -> Option<usize> {
        self.slots.iter().position(|slot| slot.block == Some(block))
    }

    fn oldest_slot(&self) -> usize {
        // Of a block that comes in pieces, the first ones must stay.
        let kept = |slot| {
            self.lanes
                .iter()
                .any(|lane| lane.open && lane.slot == Some(slot))
        };
        let slots = self.slots.iter().enumerate();
        let free = slots.filter(|(index, _)| !kept(*index));
        let oldest = free.min_by_key(|(_, slot)| (slot.block.is_some(), slot.used));
        oldest.map_or(0, |(index, _)| index)
    }

    const fn block_bytes(&self) -> u64 {
        self.config.block_bytes as u64
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }
}

#[cfg(test)]
mod tests;
