//! What a reader asks for, keeps and drops: random access over ranges, without the ranges.
//!
//! A reader works in blocks of one size. Some are kept in slots; the least recently used one makes
//! room for the next. Blocks come over lanes: requests that are open, each at a place of its own.
//! There are two, so that a demuxer's hop to the end of a file and back goes on where it left off.
//! A place that a lane will reach soon is waited for; how soon is soon follows from what a new
//! request costs, as measured.

use std::time::Duration;

/// Lanes of a reader.
pub const LANES: usize = 2;

/// The sizes a reader works with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadAheadConfig {
    /// Bytes of a block: what is received at a time. 64 KiB unless set.
    pub block_bytes: usize,
    /// Blocks kept. 64 unless set; at least 2.
    pub blocks: usize,
    /// Bytes asked for at a new place, in whole blocks. 512 KiB unless set.
    pub request_bytes_min: u64,
    /// Bytes asked for where reading goes on and on: four times as many with each request, up to
    /// this. 8 MiB unless set.
    pub request_bytes_max: u64,
}

impl Default for ReadAheadConfig {
    fn default() -> Self {
        Self {
            block_bytes: 64 * 1024,
            blocks: 64,
            request_bytes_min: 512 * 1024,
            request_bytes_max: 8 * 1024 * 1024,
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
    /// Receive into a slot, until it is full or the lane ends, then
    /// [`ReadAhead::handle_received`].
    Receive {
        /// The lane to receive from.
        lane: usize,
        /// The slot to receive into.
        slot: usize,
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

#[derive(Clone, Copy, Debug, Default)]
struct Lane {
    /// Offset of the next byte that comes.
    next: u64,
    /// Offset behind the last; `None`: not known.
    end: Option<u64>,
    /// Bytes last asked for.
    window: u64,
    open: bool,
    used: u64,
}

/// The policy of one reader. See the [module](self).
#[derive(Clone, Debug)]
pub struct ReadAhead {
    config: ReadAheadConfig,
    complete_length: Option<u64>,
    /// An answer did not tell the length.
    untold: bool,
    slots: Vec<Slot>,
    lanes: [Lane; LANES],
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
        let block_bytes = config.block_bytes.max(1);
        let blocks = |bytes: u64| {
            let block = block_bytes as u64;
            (bytes / block).max(1).saturating_mul(block)
        };
        let request_bytes_min = blocks(config.request_bytes_min);
        let config = ReadAheadConfig {
            block_bytes,
            blocks: config.blocks.max(2),
            request_bytes_min,
            request_bytes_max: blocks(config.request_bytes_max).max(request_bytes_min),
        };
        Self {
            config,
            complete_length: None,
            untold: false,
            slots: vec![Slot::default(); config.blocks],
            lanes: [Lane::default(); LANES],
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
        if self
            .complete_length
            .is_some_and(|length| position >= length)
        {
            return ReadStep::End;
        }
        let block = position / self.block_bytes();
        let offset = (position % self.block_bytes()) as usize;
        if let Some(slot) = self.slot_of(block) {
            return match self.slots[slot].len.checked_sub(offset) {
                Some(len @ 1..) => ReadStep::Serve { slot, offset, len },
                // The last block of a source whose length showed with it.
                _ => ReadStep::End,
            };
        }
        let start = block * self.block_bytes();
        let near = |lane: &Lane| {
            let gap = start.checked_sub(lane.next)?;
            let reaches = lane.end.is_none_or(|end| start < end);
            (lane.open && reaches && gap <= self.patience()).then_some(gap)
        };
        let nearest = (0..LANES)
            .filter_map(|lane| Some((near(&self.lanes[lane])?, lane)))
            .min();
        if let Some((_, lane)) = nearest {
            let coming = self.lanes[lane].next / self.block_bytes();
            let slot = self.slot_of(coming).unwrap_or_else(|| self.oldest_slot());
            return ReadStep::Receive { lane, slot };
        }
        let lane = self.free_lane(start);
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
        assert_eq!(start % self.block_bytes(), 0, "lanes begin with a block");
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
            open: leads_on && end.is_none_or(|end| start < end),
            used,
        };
        self.latency = if self.latency.is_zero() {
            latency
        } else {
            (self.latency * 3 + latency) / 4
        };
    }

    /// States that a lane's next `n` bytes are in a slot, whether they are its last (fewer than a
    /// block always are), and how long they took to come.
    pub fn handle_received(
        &mut self,
        lane: usize,
        slot: usize,
        n: usize,
        is_last: bool,
        elapsed: Duration,
    ) {
        assert!(n <= self.config.block_bytes, "a slot holds one block");
        let used = self.tick();
        let block_bytes = self.block_bytes();
        let lane = &mut self.lanes[lane];
        assert!(lane.open, "nothing comes over a closed lane");
        let block = lane.next / block_bytes;
        lane.next += n as u64;
        lane.used = used;
        let is_last = is_last || (n as u64) < block_bytes;
        if is_last && lane.end.is_none() && self.complete_length.is_none() {
            // Nothing else told the length, and the answer is whole.
            self.complete_length = Some(lane.next);
        }
        lane.open = !is_last && lane.end.is_none_or(|end| lane.next < end);
        self.slots[slot] = Slot {
            block: (n > 0).then_some(block),
            len: n,
            used,
        };
        if n > 0 {
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
        self.slots[slot].block = None;
    }

    /// States that a lane is lost, with everything that was still to come over it.
    pub fn handle_closed(&mut self, lane: usize) {
        self.lanes[lane].open = false;
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

    /// How much to ask for from `start`.
    fn window(&self, lane: &Lane, start: u64) -> Option<u64> {
        let goes_on = !lane.open && lane.next == start && lane.window > 0;
        let window = if goes_on {
            lane.window
                .saturating_mul(4)
                .min(self.config.request_bytes_max)
        } else {
            self.config.request_bytes_min
        };
        // Not what is here already.
        let block = start / self.block_bytes();
        let held = self.slots.iter().filter_map(|slot| slot.block);
        let next_held = held.filter(|held| *held > block).min();
        let free = next_held.map_or(u64::MAX, |held| {
            (held - block).saturating_mul(self.block_bytes())
        });
        let to_end = self
            .complete_length
            .map_or(u64::MAX, |length| length - start);
        Some(window.min(free).min(to_end))
    }

    /// The lane that ended right here, else one that is closed, else the least recently used.
    fn free_lane(&self, start: u64) -> usize {
        let key = |index: &usize| {
            let lane = &self.lanes[*index];
            let goes_on = !lane.open && lane.next == start && lane.window > 0;
            (!goes_on, lane.open, lane.used)
        };
        (0..LANES).min_by_key(key).unwrap_or(0)
    }

    fn slot_of(&self, block: u64) -> Option<usize> {
        self.slots.iter().position(|slot| slot.block == Some(block))
    }

    fn oldest_slot(&self) -> usize {
        let slots = self.slots.iter().enumerate();
        let oldest = slots.min_by_key(|(_, slot)| (slot.block.is_some(), slot.used));
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
mod tests {
    use super::*;

    /// A reader of a source that a `Vec` stands for, with the requests it made.
    struct Model {
        policy: ReadAhead,
        source: Vec<u8>,
        knows_length: bool,
        /// The last block of a lane is known for it, not found out by one more read.
        tells_last: bool,
        slots: Vec<Vec<u8>>,
        lanes: [Vec<u8>; LANES],
        requests: Vec<(u64, u64)>,
        latency: Duration,
        block_time: Duration,
    }

    fn config() -> ReadAheadConfig {
        ReadAheadConfig {
            block_bytes: 10,
            blocks: 8,
            request_bytes_min: 40,
            request_bytes_max: 160,
        }
    }

    impl Model {
        fn new(len: usize) -> Self {
            Self {
                policy: ReadAhead::new(config()),
                source: (0..len).map(|at| (at * 7 + at / 256) as u8).collect(),
                knows_length: true,
                tells_last: true,
                slots: vec![Vec::new(); 8],
                lanes: Default::default(),
                requests: Vec::new(),
                latency: Duration::from_millis(1),
                block_time: Duration::from_millis(1),
            }
        }

        /// Reads once at `position`, at most `max` bytes.
        fn read(&mut self, position: u64, max: usize) -> Vec<u8> {
            for _ in 0..10_000 {
                let step = self.policy.poll(position);
                assert_eq!(step, self.policy.poll(position), "polling is pure");
                match step {
                    ReadStep::End => return Vec::new(),
                    ReadStep::Serve { slot, offset, len } => {
                        self.policy.handle_served(slot);
                        assert_eq!(offset + len, self.slots[slot].len());
                        return self.slots[slot][offset..offset + len.min(max)].to_vec();
                    }
                    ReadStep::Open { lane, start, len } => {
                        let from = (start as usize).min(self.source.len());
                        let all = &self.source[from..];
                        let len_now = len.map_or(all.len(), |len| all.len().min(len as usize));
                        self.lanes[lane] = all[..len_now].to_vec();
                        self.requests.push((start, len_now as u64));
                        let told = self.knows_length.then_some(self.source.len() as u64);
                        self.policy
                            .handle_opened(lane, start, len, told, self.latency);
                    }
                    ReadStep::Receive { lane, slot } => {
                        let n = self.lanes[lane].len().min(10);
                        self.slots[slot] = self.lanes[lane].drain(..n).collect();
                        let is_last = self.tells_last && self.lanes[lane].is_empty();
                        self.policy
                            .handle_received(lane, slot, n, is_last, self.block_time);
                    }
                }
            }
            panic!("no end of it at {position}");
        }

        #[track_caller]
        fn check(&mut self, position: u64, max: usize) {
            let got = self.read(position, max);
            let from = (position as usize).min(self.source.len());
            let expected = &self.source[from..];
            assert!(expected.starts_with(&got), "other bytes at {position}");
            assert_eq!(got.is_empty(), expected.is_empty() || max == 0);
        }

        fn read_all(&mut self, mut position: u64) {
            loop {
                let n = self.read(position, 7).len() as u64;
                if n == 0 {
                    return;
                }
                self.check(position, 7);
                position += n;
            }
        }
    }

    #[test]
    fn straight_on_asks_for_more_and_more() {
        let mut model = Model::new(1005);
        model.read_all(0);
        let lens: Vec<_> = model.requests.iter().map(|(_, len)| *len).collect();
        assert_eq!(lens, [40, 160, 160, 160, 160, 160, 160, 5]);
        let end = model.requests.iter().fold(0, |end, (start, len)| {
            assert_eq!(*start, end);
            start + len
        });
        assert_eq!(end, 1005);
    }

    #[test]
    fn a_hop_to_the_end_and_back_costs_two_requests() {
        let mut model = Model::new(1005);
        model.check(0, 10);
        model.check(1000, 5);
        model.check(990, 5);
        model.check(10, 10);
        model.check(5, 5);
        model.check(1000, 5);
        assert_eq!(model.requests, [(0, 40), (1000, 5), (990, 10)]);
    }

    #[test]
    fn a_short_way_forward_is_read_past() {
        let mut model = Model::new(1005);
        model.check(0, 1);
        model.check(25, 1);
        assert_eq!(model.requests.len(), 1, "one block");
        // Ten blocks' time for a request: all that was asked for is nearer than a new one.
        model.latency = Duration::from_millis(10);
        for _ in 0..50 {
            model.check(500, 1);
            model.policy.handle_closed(0);
            model.policy.handle_closed(1);
            model.slots.fill(Vec::new());
            model.policy.slots.fill(Slot::default());
        }
        assert_eq!(model.policy.patience(), 40);
        model.requests.clear();
        model.check(0, 1);
        model.check(35, 1);
        assert_eq!(model.requests.len(), 1);
        // And a request that costs less than a block is made at once.
        let mut model = Model::new(1005);
        model.latency = Duration::from_micros(1);
        model.check(0, 1);
        model.check(35, 1);
        assert_eq!(model.requests.len(), 2);
    }

    #[test]
    fn what_is_held_is_not_asked_for() {
        let mut model = Model::new(1005);
        model.check(520, 1);
        model.policy.handle_closed(0);
        model.policy.handle_closed(1);
        model.requests.clear();
        model.check(500, 1);
        assert_eq!(model.requests, [(500, 20)]);
    }

    #[test]
    fn an_unknown_length_is_found_at_the_end() {
        for len in [0, 1, 10, 39, 40, 41, 200, 333] {
            let mut model = Model::new(len);
            model.knows_length = false;
            model.tells_last = len != 200;
            model.read_all(0);
            assert_eq!(model.policy.complete_length(), Some(len as u64), "{len}");
            assert_eq!(model.requests.len(), 2, "{len}");
        }
        let mut model = Model::new(333);
        model.knows_length = false;
        for position in [100, 0, 200, 150, 332, 333, 0] {
            model.check(position, 5);
        }
        assert!(model.requests[1..].iter().all(|(start, _)| *start == 0));
        for position in [0, 300, 100] {
            model.check(position, 5);
        }
    }

    #[test]
    fn lost_lanes_are_opened_again_where_they_were() {
        let mut model = Model::new(1005);
        model.check(0, 10);
        model.policy.handle_closed(0);
        model.check(10, 10);
        assert_eq!(model.requests[1].0, 10);
    }

    #[test]
    fn agrees_with_slicing_wherever_it_reads() {
        let mut random = 1u64;
        let mut next = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        for len in [0, 1, 9, 10, 11, 100, 101, 999, 5000, 5001, 77] {
            let mut model = Model::new(len as usize);
            model.knows_length = len % 7 != 0;
            model.tells_last = len % 2 == 0;
            let mut position = 0;
            for _ in 0..3000 {
                position = match next(10) {
                    0 => next(len + 20),
                    1 => len.saturating_sub(next(30)),
                    2 => position + next(60),
                    3 => position.saturating_sub(next(60)),
                    _ => position,
                };
                if next(50) == 0 {
                    model.policy.handle_closed(next(2) as usize);
                }
                model.latency = Duration::from_micros(next(5000));
                let got = model.read(position, 1 + next(20) as usize);
                let from = (position as usize).min(model.source.len());
                assert!(model.source[from..].starts_with(&got));
                assert_eq!(got.is_empty(), from == model.source.len());
                position += got.len() as u64;
            }
        }
    }
}
