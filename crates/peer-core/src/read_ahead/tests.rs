//! The policy against a `Vec`, by one reader and by several, in any order.

use super::*;

/// A reader of a source that a `Vec` stands for, with the requests it made.
struct Model {
    policy: ReadAhead,
    source: Vec<u8>,
    knows_length: bool,
    /// The last block of a lane is known for it, not found out by one more read.
    tells_last: bool,
    slots: Vec<Vec<u8>>,
    lanes: Vec<Vec<u8>>,
    requests: Vec<(u64, u64)>,
    latency: Duration,
    block_time: Duration,
    /// Most bytes that come at a time.
    piece: usize,
}

fn config() -> ReadAheadConfig {
    ReadAheadConfig {
        block_bytes: 10,
        blocks: 8,
        request_bytes_min: 40,
        request_bytes_max: 160,
        requests: 2,
    }
}

impl Model {
    fn new(len: usize) -> Self {
        Self::with(config(), len)
    }

    fn with(config: ReadAheadConfig, len: usize) -> Self {
        Self {
            policy: ReadAhead::new(config),
            source: (0..len).map(|at| (at * 7 + at / 256) as u8).collect(),
            knows_length: true,
            tells_last: true,
            slots: vec![Vec::new(); config.blocks],
            lanes: vec![Vec::new(); config.requests],
            requests: Vec::new(),
            piece: 10,
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
                    assert!(offset + len <= self.slots[slot].len());
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
                ReadStep::Receive { lane, slot, offset } => {
                    assert_eq!(slot, self.policy.slot_for(lane));
                    let n = self.lanes[lane].len().min(10 - offset).min(self.piece);
                    let came: Vec<u8> = self.lanes[lane].drain(..n).collect();
                    let block = self.policy.lanes[lane].next / 10;
                    let held = &mut self.slots[slot];
                    if self.policy.slots[slot].block != Some(block) {
                        held.clear();
                    }
                    assert!(offset <= held.len(), "a gap in the block");
                    let behind = held.split_off(held.len().min(offset + n));
                    held.truncate(offset);
                    held.extend(came);
                    held.extend(behind);
                    let is_last = self.lanes[lane].is_empty() && (self.tells_last || n == 0);
                    self.policy
                        .handle_received(lane, slot, n, is_last, self.block_time);
                }
                ReadStep::Wait { .. } => panic!("there is nobody else"),
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
fn sizes_out_of_range_are_taken_for_the_nearest() {
    for (size, block_bytes, blocks, requests) in
        [(0, 1, 2, 1), (usize::MAX, 16_777_216, 65_536, 64)]
    {
        let policy = ReadAhead::new(ReadAheadConfig {
            block_bytes: size,
            blocks: size,
            request_bytes_min: size as u64,
            request_bytes_max: size as u64,
            requests: size,
        });
        let config = policy.config();
        assert_eq!(config.block_bytes, block_bytes);
        assert_eq!(config.blocks, blocks);
        assert_eq!(config.requests, requests);
        assert!(config.request_bytes_min <= config.request_bytes_max);
        assert_eq!(policy.poll(u64::MAX), ReadStep::End);
        for position in [0, 1, u64::MAX - 100, u64::MAX - 1] {
            let ReadStep::Open { start, len, .. } = policy.poll(position) else {
                panic!("{:?}", policy.poll(position));
            };
            assert!(start <= position && len != Some(0), "{start} {len:?}");
            assert!(start.checked_add(len.unwrap_or(0)).is_some());
        }
    }
}

#[test]
fn what_is_held_is_not_asked_for() {
    let mut model = Model::new(1005);
    model.latency = Duration::from_micros(1);
    model.check(520, 1);
    model.policy.handle_closed(0);
    model.policy.handle_closed(1);
    model.requests.clear();
    model.check(500, 1);
    assert_eq!(model.requests, [(500, 20)]);
}

/// As by default, with blocks of 10 bytes.
fn large() -> ReadAheadConfig {
    ReadAheadConfig {
        block_bytes: 10,
        blocks: 64,
        request_bytes_min: 80,
        request_bytes_max: 1280,
        requests: 2,
    }
}

#[test]
fn reading_on_is_not_chopped_by_what_seeking_left() {
    const LEN: u64 = 4000;
    let mut fresh = Model::with(large(), LEN as usize);
    fresh.read_all(0);
    let fresh = fresh.requests.len();
    for seeks in [3, 10, 30, 60, 200] {
        for blocks in 1..=6 {
            let mut model = Model::with(large(), LEN as usize);
            // A request costs less than a block, as on a fast network.
            model.latency = Duration::from_micros(1);
            for seek in 0..seeks {
                let place = seek * 1237 % (LEN - 100);
                for block in 0..blocks {
                    model.check(place + 10 * block, 1);
                }
            }
            model.policy.handle_closed(0);
            model.policy.handle_closed(1);
            model.requests.clear();
            model.read_all(0);
            let asked: u64 = model.requests.iter().map(|(_, len)| len).sum();
            let requests = model.requests.len();
            let case = format!("{seeks} seeks of {blocks}: {:?}", model.requests);
            assert!(requests <= fresh + 3, "{requests} and {fresh}, {case}");
            assert!(asked <= LEN + LEN / 4, "{asked} bytes, {case}");
        }
    }
}

#[test]
fn a_large_part_that_is_kept_is_not_asked_for_again() {
    for (kept, around) in [
        // Half of what can be kept, and the end of what would be asked for is in it.
        (20..52, [(0, 80), (80, 120), (520, 1280)]),
        // More than a quarter of what would be asked for.
        (20..35, [(0, 80), (80, 120), (350, 1280)]),
        // Less, but at its end.
        (37..40, [(0, 80), (80, 290), (400, 1280)]),
        // And less in its midst, of which the last block is like any other.
        (20..27, [(0, 80), (80, 320), (400, 1280)]),
    ] {
        let mut model = Model::with(large(), 4000);
        model.latency = Duration::from_micros(1);
        for block in kept.clone() {
            model.check(10 * block, 10);
        }
        model.policy.lanes.fill(Lane::default());
        model.requests.clear();
        let mut position = 0;
        while position < 1000 {
            position += model.read(position, 10).len() as u64;
        }
        // What follows is asked for as by one who came straight on.
        assert_eq!(model.requests, around, "{kept:?}");
    }
}

#[test]
fn what_costs_less_than_a_request_is_asked_for_again() {
    let mut model = Model::with(large(), 4000);
    // Ten blocks' time for a request, so eight of them are a short way.
    model.latency = Duration::from_millis(10);
    for block in (12..20).chain(22..30) {
        model.check(10 * block, 10);
    }
    model.policy.lanes.fill(Lane::default());
    model.requests.clear();
    let mut position = 0;
    while position < 400 {
        position += model.read(position, 10).len() as u64;
    }
    assert_eq!(model.requests, [(0, 80), (80, 320)]);
}

#[test]
fn what_will_be_gone_is_not_reckoned_with() {
    let mut model = Model::with(large(), 4000);
    // All that is kept, the first of it longest ago.
    for block in 300..364 {
        model.check(10 * block, 1);
    }
    model.requests.clear();
    model.policy.lanes.fill(Lane::default());
    model.policy.lanes[0].next = 2000;
    model.policy.lanes[0].window = 1280;
    model.check(2000, 1);
    // Reading on to the first of it takes a hundred blocks, and it has made room by then.
    assert_eq!(model.requests, [(2000, 1280)]);
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
            model.piece = 1 + next(12) as usize;
            let got = model.read(position, 1 + next(20) as usize);
            let from = (position as usize).min(model.source.len());
            assert!(model.source[from..].starts_with(&got));
            assert_eq!(got.is_empty(), from == model.source.len());
            position += got.len() as u64;
        }
    }
}

#[test]
fn a_block_may_be_filled_while_a_lane_is_opened_in_its_midst() {
    let mut policy = ReadAhead::new(config());
    let latency = Duration::from_micros(1);
    let open = |policy: &mut ReadAhead, position, from| {
        let step = policy.poll(position);
        let ReadStep::Open { lane, start, len } = step else {
            panic!("{step:?}");
        };
        assert_eq!(start, from);
        policy.handle_taken(&step);
        (lane, start, len)
    };
    let receive = |policy: &mut ReadAhead, lane, n| {
        let slot = policy.slot_for(lane);
        policy.handle_received(lane, slot, n, false, Duration::from_millis(1));
    };
    let (behind, start, len) = open(&mut policy, 0, 0);
    policy.handle_opened(behind, start, len, Some(1005), latency);
    let (ahead, start, len) = open(&mut policy, 35, 30);
    policy.handle_opened(ahead, start, len, Some(1005), latency);
    receive(&mut policy, ahead, 5);
    policy.handle_closed(ahead);
    let (ahead, start, len) = open(&mut policy, 36, 35);
    for _ in 0..4 {
        receive(&mut policy, behind, 10);
    }
    policy.handle_opened(ahead, start, len, Some(1005), latency);
    receive(&mut policy, ahead, 5);
    let step = policy.poll(36);
    assert!(
        matches!(
            step,
            ReadStep::Serve {
                offset: 6,
                len: 4,
                ..
            }
        ),
        "{step:?}"
    );
}

/// What a reader that shares is at, outside of the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Open {
        lane: usize,
        start: u64,
        len: Option<u64>,
    },
    Receive {
        lane: usize,
        offset: usize,
    },
}

impl Task {
    fn lane(self) -> usize {
        match self {
            Self::Open { lane, .. } | Self::Receive { lane, .. } => lane,
        }
    }
}

#[derive(Clone, Copy)]
struct Reader {
    position: u64,
    task: Option<Task>,
}

#[test]
fn readers_that_share_agree_with_slicing_whatever_comes_in_between() {
    for seed in 1..=40_u64 {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut next = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let source: Vec<u8> = (0..700 + seed)
            .map(|at| (at * 7 + at / 256) as u8)
            .collect();
        let len = source.len() as u64;
        let lanes = 1 + seed as usize % 4;
        let mut policy = ReadAhead::new(ReadAheadConfig {
            blocks: 2 + seed as usize % 9,
            requests: lanes,
            ..config()
        });
        let mut slots = vec![vec![0; 10]; policy.config().blocks];
        let mut coming: Vec<Vec<u8>> = vec![Vec::new(); lanes];
        let mut readers = [Reader {
            position: 0,
            task: None,
        }; 6];
        let mut served = 0;
        // Whoever has finished goes on at once, as under the driver's lock.
        let mut finished = None;
        for _ in 0..20_000 {
            let number = finished.take().unwrap_or_else(|| next(6) as usize);
            let Some(task) = readers[number].task.take() else {
                let position = readers[number].position;
                let step = policy.poll(position);
                let taken = |lane: usize| {
                    let mut tasks = readers.iter().filter_map(|reader| reader.task);
                    tasks.any(|task| task.lane() == lane)
                };
                match step {
                    ReadStep::End => assert!(position >= len && len > 0),
                    ReadStep::Serve { slot, offset, len } => {
                        let held = &slots[slot][offset..offset + len];
                        assert!(source[position as usize..].starts_with(held), "seed {seed}");
                        policy.handle_served(slot);
                        readers[number].position += 1 + next(len as u64);
                        served += 1;
                    }
                    ReadStep::Wait { lane: Some(lane) } => assert!(taken(lane)),
                    ReadStep::Wait { lane: None } => assert!((0..lanes).all(taken)),
                    ReadStep::Receive { lane, offset, .. } => {
                        assert!(!taken(lane), "one at a time");
                        policy.handle_taken(&step);
                        policy.handle_followed(lane, number as u64);
                        readers[number].task = Some(Task::Receive { lane, offset });
                    }
                    ReadStep::Open { lane, start, len } => {
                        assert!(!taken(lane), "one at a time");
                        let left: Vec<_> = policy.left_lanes().collect();
                        assert!(left.iter().all(|lane| !taken(*lane)));
                        policy.handle_taken(&step);
                        policy.handle_followed(lane, number as u64);
                        for left in policy.left_lanes().collect::<Vec<_>>() {
                            policy.handle_closed(left);
                        }
                        readers[number].task = Some(Task::Open { lane, start, len });
                    }
                }
                // At the end, or in between, it goes elsewhere.
                if step == ReadStep::End || next(20) == 0 && readers[number].task.is_none() {
                    readers[number].position = next(len + 5);
                    if next(3) == 0 {
                        policy.handle_left(number as u64);
                    }
                }
                continue;
            };
            finished = Some(number);
            let lane = task.lane();
            if next(25) == 0 {
                policy.handle_closed(lane);
                continue;
            }
            match task {
                Task::Open {
                    start, len: asked, ..
                } => {
                    let end = asked.map_or(len, |asked| len.min(start + asked));
                    coming[lane] = source[start as usize..end as usize].to_vec();
                    let latency = Duration::from_micros(next(3000));
                    policy.handle_opened(lane, start, asked, Some(len), latency);
                }
                Task::Receive { offset, .. } => {
                    let most = coming[lane].len().min(10 - offset) as u64;
                    let n = 1 + next(most) as usize;
                    let came: Vec<u8> = coming[lane].drain(..n).collect();
                    let slot = policy.slot_for(lane);
                    slots[slot][offset..offset + n].copy_from_slice(&came);
                    let is_last = coming[lane].is_empty();
                    policy.handle_received(lane, slot, n, is_last, Duration::from_millis(1));
                }
            }
        }
        assert!(
            served > 1000,
            "seed {seed}: only {served} reads came to an end"
        );
    }
}

#[test]
fn what_is_forgotten_is_asked_for_again() {
    let mut model = Model::new(100);
    model.check(0, 10);
    model.policy.handle_forgotten();
    for slot in &mut model.slots {
        slot.clear();
    }
    let before = model.requests.len();
    model.check(0, 10);
    assert_eq!(model.requests.len(), before + 1);
    assert_eq!(model.policy.complete_length(), Some(100), "that stays");
}

#[test]
fn a_dropped_block_is_asked_for_again() {
    let mut model = Model::new(100);
    model.check(0, 10);
    let ReadStep::Serve { slot, .. } = model.policy.poll(0) else {
        panic!("{:?}", model.policy.poll(0));
    };
    model.policy.handle_dropped(slot);
    model.slots[slot].clear();
    assert!(matches!(
        model.policy.poll(0),
        ReadStep::Open { start: 0, .. }
    ));
    model.check(0, 10);
}

#[test]
fn nobody_takes_what_is_no_lane() {
    let mut model = Model::new(100);
    model.check(0, 10);
    let step = model.policy.poll(0);
    assert!(matches!(step, ReadStep::Serve { .. }));
    let before = format!("{:?}", model.policy);
    model.policy.handle_taken(&step);
    assert_eq!(format!("{:?}", model.policy), before);
}

#[test]
fn a_lane_brings_nothing_from_its_end_on() {
    let mut model = Model::new(1005);
    model.latency = Duration::from_millis(10);
    model.check(0, 10);
    assert_eq!((model.requests[0], model.policy.patience()), ((0, 40), 40));
    assert!(matches!(model.policy.poll(39), ReadStep::Receive { .. }));
    let step = model.policy.poll(40);
    assert!(matches!(step, ReadStep::Open { start: 40, .. }), "{step:?}");
}

/// Opens a lane at `position` and takes it.
fn open(policy: &mut ReadAhead, position: u64) -> usize {
    let step = policy.poll(position);
    let ReadStep::Open { lane, start, len } = step else {
        panic!("{step:?}");
    };
    policy.handle_taken(&step);
    policy.handle_opened(lane, start, len, Some(1005), Duration::from_micros(1));
    lane
}

#[test]
fn lanes_that_nobody_follows_are_told_and_go_first() {
    let left = |policy: &ReadAhead| policy.left_lanes().collect::<Vec<_>>();
    let mut policy = ReadAhead::new(config());
    let (first, second) = (open(&mut policy, 0), open(&mut policy, 500));
    assert_eq!(left(&policy), [], "nobody has left, or come");
    policy.handle_left(1);
    assert_eq!(left(&policy), [], "it did not follow");
    for reader in [1, 2, 2] {
        policy.handle_followed(second, reader);
    }
    policy.handle_left(1);
    assert_eq!(left(&policy), [], "there is another one");
    policy.handle_left(2);
    assert_eq!(left(&policy), [second]);
    // The other one was used longer ago, and is followed or may be.
    let step = policy.poll(900);
    assert!(matches!(step, ReadStep::Open { lane, .. } if lane == second));
    policy.handle_followed(second, 3);
    assert_eq!(left(&policy), [], "somebody came");
    let step = policy.poll(900);
    assert!(matches!(step, ReadStep::Open { lane, .. } if lane == first));
    policy.handle_left(3);
    let step = policy.poll(500);
    assert!(matches!(step, ReadStep::Receive { lane, .. } if lane == second));
    policy.handle_taken(&step);
    assert_eq!(left(&policy), [], "somebody receives from it");
    policy.handle_closed(second);
    assert_eq!(left(&policy), [], "it is closed");
}

/// States what came over a lane, in the time of a 256th of a second for each block.
fn receive(policy: &mut ReadAhead, lane: usize, n: usize, is_last: bool) {
    let slot = policy.slot_for(lane);
    policy.handle_received(lane, slot, n, is_last, Duration::from_nanos(3_906_250));
}

#[test]
fn a_lane_is_open_until_its_end() {
    let mut policy = ReadAhead::new(config());
    let lane = open(&mut policy, 0);
    for _ in 0..3 {
        receive(&mut policy, lane, 10, false);
        assert!(policy.lanes[lane].open);
    }
    receive(&mut policy, lane, 10, false);
    assert!(!policy.lanes[lane].open, "all that was asked for");
    let lane = open(&mut policy, 500);
    receive(&mut policy, lane, 10, true);
    assert!(!policy.lanes[lane].open, "less, and no more comes");
    // Nothing comes of what begins with the end, nor a second time of what has no length.
    let mut policy = ReadAhead::new(config());
    policy.handle_opened(0, 40, Some(40), Some(40), Duration::ZERO);
    assert!(!policy.lanes[0].open);
    let mut policy = ReadAhead::new(config());
    policy.handle_opened(0, 0, Some(40), None, Duration::ZERO);
    assert!(!policy.lanes[0].open);
}

#[test]
fn the_block_that_was_used_longest_ago_makes_room() {
    let mut model = Model::new(1005);
    model.latency = Duration::from_micros(1);
    let is_held = |model: &Model, position| {
        let step = model.policy.poll(position);
        matches!(step, ReadStep::Serve { .. })
    };
    for position in (0..800).step_by(100) {
        model.check(position, 1);
    }
    assert!(
        (0..800)
            .step_by(100)
            .all(|position| is_held(&model, position))
    );
    model.check(0, 1);
    model.check(800, 1);
    assert!(is_held(&model, 0), "it was read again");
    assert!(!is_held(&model, 100));
    // An end that comes by itself takes no room.
    let before = model.policy.slots.clone();
    let lane = (0..2).find(|lane| model.policy.lanes[*lane].next == 810);
    receive(&mut model.policy, lane.unwrap(), 0, true);
    assert_eq!(format!("{:?}", model.policy.slots), format!("{before:?}"));
}

#[test]
fn patience_follows_what_comes_and_how_long_requests_take() {
    // Parts of a second that are powers of two, so that nothing is rounded.
    let second = |part: u32| Duration::from_secs(1) / part;
    let mut policy = ReadAhead::new(ReadAheadConfig {
        request_bytes_min: 1000,
        ..config()
    });
    policy.handle_opened(0, 0, None, Some(1005), second(128));
    let slot = policy.slot_for(0);
    policy.handle_received(0, slot, 10, false, second(512));
    assert_eq!(policy.patience(), 10 * 512 / 128);
    let slot = policy.slot_for(0);
    policy.handle_received(0, slot, 10, false, second(256));
    assert_eq!(policy.patience(), 10 * (3 * 512 + 256) / 4 / 128);
    policy.handle_opened(1, 500, None, Some(1005), 5 * second(128));
    assert_eq!(policy.patience(), 10 * (3 * 512 + 256) / 4 * 2 / 128);
    let slot = policy.slot_for(0);
    policy.handle_received(0, slot, 0, true, second(256));
    assert_eq!(policy.patience(), 10 * (3 * 512 + 256) / 4 * 2 / 128);
}

#[test]
fn what_is_not_kept_is_not_crossed() {
    let mut policy = ReadAhead::new(large());
    let lane = open(&mut policy, 0);
    policy.lanes[lane].window = 1280;
    policy.lanes[lane].end = Some(1005);
    receive(&mut policy, lane, 10, false);
    assert_eq!(policy.patience(), 10);
    assert!(matches!(policy.poll(29), ReadStep::Receive { .. }));
    assert!(matches!(policy.poll(30), ReadStep::Open { start: 30, .. }));
    // Blocks that are kept are crossed, up to a quarter of what was asked for.
    for (kept, comes) in [(320, true), (330, true), (340, false)] {
        for (block, slot) in (1..).zip(10..50) {
            policy.slots[slot] = Slot {
                block: (block * 10 < kept).then_some(block),
                len: 10,
                used: 1,
            };
        }
        let step = policy.poll(kept);
        let receives = matches!(step, ReadStep::Receive { .. });
        assert_eq!(receives, comes, "{kept}: {step:?}");
    }
}

#[test]
fn what_is_asked_for_grows_with_what_was_read_from_where_it_began() {
    let mut model = Model::with(large(), 4000);
    let mut position = 2000;
    while position < 3500 {
        position += model.read(position, 10).len() as u64;
    }
    assert_eq!(model.requests, [(2000, 80), (2080, 320), (2400, 1280)]);
}

#[test]
fn a_request_ends_with_a_block_wherever_it_begins() {
    let mut policy = ReadAhead::new(config());
    let lane = open(&mut policy, 0);
    receive(&mut policy, lane, 4, false);
    policy.handle_closed(lane);
    let step = policy.poll(7);
    let ReadStep::Open { start, len, .. } = step else {
        panic!("{step:?}");
    };
    // It leads on from a first request, so four of those; and not into a block's midst.
    assert_eq!((start, len), (4, Some(156)));
}

#[test]
fn what_is_kept_and_will_be_ends_a_request() {
    // Blocks in the order in which they go.
    let until_kept = |kept: [u64; 8], start, end, leads_on| {
        let mut policy = ReadAhead::new(config());
        for ((slot, block), used) in policy.slots.iter_mut().zip(kept).zip(1..) {
            *slot = Slot {
                block: Some(block),
                len: 10,
                used,
            };
        }
        policy.complete_length = Some(5000);
        assert_eq!(policy.patience(), 10);
        policy.until_kept(start, end, leads_on)
    };
    // Three blocks come before the fourth is reached: with three to go before it, it stays.
    assert_eq!(
        until_kept([96, 97, 98, 3, 90, 91, 92, 93], 0, 160, false),
        30
    );
    assert_eq!(
        until_kept([96, 97, 3, 98, 90, 91, 92, 93], 0, 160, false),
        160
    );
    // Of those, one that is kept need not come: one less has to go.
    assert_eq!(until_kept([96, 1, 3, 98, 90, 91, 92, 93], 0, 40, true), 30);
    assert_eq!(until_kept([96, 3, 1, 98, 90, 91, 92, 93], 0, 40, true), 40);
    // A quarter of what is asked for may be kept, wherever that is.
    assert_eq!(
        until_kept([90, 91, 92, 93, 94, 95, 101, 102], 1000, 1080, true),
        1080
    );
    assert_eq!(
        until_kept([90, 91, 92, 93, 94, 101, 102, 103], 1000, 1080, true),
        1010
    );
}
