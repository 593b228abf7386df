//! A download on a fetching host, over as many processes as it takes: the real decisions about its
//! files, on a disk that forgets what was not synced when the power fails.

use peer_core::{
    download::{Download, DownloadOutput, FileStep, OnChange, PartState},
    fetch::{FetchError, Version},
    transfer::Setback,
};

use super::{
    Context, Time,
    client::Host,
    dice::Dice,
    instant,
    link::Links,
    reading::NoSink,
    running::{Network, Order, Progress, Running, Sink},
    server::Server,
    source::Version as SourceVersion,
};

/// One process that downloads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    /// It ends after so many steps: things done with files, and pieces written.
    pub(crate) steps: Option<u64>,
    /// And so does the machine.
    pub(crate) loses_power: bool,
    /// The part finds no room for more bytes than these.
    pub(crate) room: Option<u64>,
    pub(crate) pause_before: Time,
}

/// How far a download came.
pub(crate) enum DownloadProgress {
    Waits,
    /// The process was told why, and ended.
    Failed(Setback<Network>),
    Done {
        len: u64,
        resumed_from: u64,
    },
    /// There is no other process.
    Over,
}

/// Why one step failed.
#[derive(Clone, Debug)]
enum Failure {
    Transfer(Setback<Network>),
    DiskFull,
}

/// A folder, as a process sees it, and as it is when the power comes back.
#[derive(Debug, Default)]
struct Disk {
    target: Option<Vec<u8>>,
    part: Option<Vec<u8>>,
    /// Bytes of the part, from its first on, that will be there.
    part_safe: usize,
    /// The part's name will be there.
    part_is_named: bool,
    state: Option<Vec<u8>>,
}

impl Disk {
    fn append(&mut self, content: &[u8]) {
        self.part
            .as_mut()
            .expect("an open part")
            .extend_from_slice(content);
    }

    fn cut(&mut self, len: u64) {
        let len = len as usize;
        let part = self.part.get_or_insert_default();
        part.resize(len, 0);
        self.part_safe = self.part_safe.min(len);
    }

    /// What was not synced may be there or not, or be something else.
    fn lose_power(&mut self, dice: &mut Dice) {
        let Some(part) = &mut self.part else { return };
        if !self.part_is_named && dice.chance(50) {
            (self.part, self.part_safe) = (None, 0);
            return;
        }
        part.truncate(self.part_safe);
        for _ in 0..dice.below(3000) {
            part.push(dice.below(256) as u8);
        }
        self.part_safe = part.len();
        self.part_is_named = true;
    }
}

/// A download.
pub(crate) struct Downloading {
    order: Order,
    handle: String,
    on_change: OnChange,
    lives: Vec<Life>,
    current: usize,
    disk: Disk,
    process: Option<Process>,
    /// When the next process begins.
    rests_until: Time,
    retries: u32,
}

/// What ends with a process.
struct Process {
    download: Download,
    running: Option<Box<Running>>,
    /// All of the answer came.
    ended: bool,
    steps: u64,
    failure: Option<Failure>,
}

struct PartSink<'a> {
    disk: &'a mut Disk,
    download: &'a mut Download,
    room: Option<u64>,
    time: Time,
    steps: &'a mut u64,
    is_full: bool,
}

impl Sink for PartSink<'_> {
    fn room(&self) -> usize {
        let wants = self.download.poll_output() == DownloadOutput::Receive;
        if wants && !self.is_full { 4096 } else { 0 }
    }

    fn take(&mut self, content: &[u8]) {
        let held = self.disk.part.as_ref().map_or(0, Vec::len) as u64;
        let room = self.room.map_or(u64::MAX, |room| room.saturating_sub(held));
        let n = room.min(content.len() as u64) as usize;
        self.disk.append(&content[..n]);
        *self.steps += 1;
        if n > 0 {
            self.download.handle_written(instant(self.time), n as u64);
        }
        self.is_full = n < content.len();
    }
}

impl Downloading {
    pub(crate) fn new(order: Order, on_change: OnChange, lives: Vec<Life>, time: Time) -> Self {
        Self {
            order,
            handle: format!("s{}", order.source),
            on_change,
            rests_until: time + lives.first().map_or(0, |life| life.pause_before),
            lives,
            current: 0,
            disk: Disk::default(),
            process: None,
            retries: 0,
        }
    }

    pub(crate) fn wake(&self, links: &Links, looks_later: bool) -> Option<Time> {
        let Some(process) = &self.process else {
            return Some(self.rests_until);
        };
        process.running.as_ref()?.wake(links, looks_later)
    }

    /// The target is not there, or all of one version.
    pub(crate) fn assert_whole(&self, versions: &[SourceVersion]) {
        let Some(target) = &self.disk.target else {
            return;
        };
        let is_whole = versions.iter().any(|version| version.bytes() == target);
        assert!(
            is_whole,
            "half a file of {} bytes: {versions:?}",
            target.len()
        );
    }

    /// Whether a change of the source may be an error.
    pub(crate) fn tells_changes(&self) -> bool {
        self.on_change == OnChange::Fail
    }

    /// Closes what is open. Returns the attempts made again.
    pub(crate) fn close(mut self, context: &mut Context<'_>) -> u32 {
        self.end_process(context);
        self.retries
    }

    fn end_process(&mut self, context: &mut Context<'_>) {
        if let Some(running) = self.process.take().and_then(|process| process.running) {
            self.retries += running.retries();
            running.abandon(context);
        }
    }

    /// On to the next process.
    pub(crate) fn go_on(&mut self, context: &mut Context<'_>) {
        self.end_process(context);
        self.current += 1;
        let next = self.lives.get(self.current);
        self.rests_until = context.time + next.map_or(0, |life| life.pause_before);
    }

    fn begin(&mut self, time: Time) {
        let part = self.disk.part.as_ref().map(|part| part.len() as u64);
        let found = PartState::found(&self.handle, self.disk.state.as_deref(), part);
        let found = found.expect("a part that is a download's");
        assert!(
            found.held <= self.disk.part_safe as u64,
            "{} bytes are said to be held of {}",
            found.held,
            self.disk.part_safe
        );
        self.process = Some(Process {
            download: Download::new(found, self.on_change, instant(time)),
            running: None,
            ended: false,
            steps: 0,
            failure: None,
        });
    }

    /// Goes on until it has to wait, or a process ends with what it was told.
    pub(crate) fn advance(
        &mut self,
        host: &mut Host,
        context: &mut Context<'_>,
        server: &mut Server,
        moved: &mut bool,
    ) -> DownloadProgress {
        let time = context.time;
        let now = instant(time);
        loop {
            let Some(life) = self.lives.get(self.current).copied() else {
                return DownloadProgress::Over;
            };
            let Some(process) = &mut self.process else {
                if self.rests_until > time {
                    return DownloadProgress::Waits;
                }
                self.begin(time);
                *moved = true;
                continue;
            };
            if life.steps.is_some_and(|steps| process.steps >= steps) {
                context.trace(|| format!("dies, and so does the machine: {}", life.loses_power));
                if life.loses_power {
                    self.disk.lose_power(context.dice);
                }
                self.go_on(context);
                *moved = true;
                continue;
            }
            let Process {
                download,
                running,
                ended,
                steps,
                failure,
            } = process;
            assert_eq!(download.poll_output(), download.poll_output());
            let result = match download.poll_output() {
                DownloadOutput::Fetch { want, version } => {
                    let order = Order {
                        want,
                        version,
                        ..self.order
                    };
                    if let (Some(old), Some(_)) = (running.take_if(|_| failure.is_some()), &failure)
                    {
                        // It begins anew.
                        self.retries += old.retries();
                        old.abandon(context);
                    }
                    *failure = None;
                    let running =
                        running.get_or_insert_with(|| Box::new(Running::new(order, time)));
                    let progress = running.advance(host, context, server, &mut NoSink, moved);
                    let told = match progress {
                        Progress::Waits => return DownloadProgress::Waits,
                        Progress::Paused => Ok(running.answer().map(|answer| answer.version())),
                        Progress::Done { version, .. } => {
                            *ended = true;
                            Ok(version)
                        }
                        Progress::Failed(setback) => Err(Failure::Transfer(setback)),
                    };
                    told.map(|told: Option<Version>| {
                        if let Some(version) = download.handle_answered(told) {
                            running.bind(version);
                        }
                    })
                }
                DownloadOutput::Receive if *ended => {
                    download.handle_ended(now);
                    Ok(())
                }
                DownloadOutput::Receive => {
                    let running = running.as_mut().expect("a transfer");
                    let mut sink = PartSink {
                        disk: &mut self.disk,
                        download,
                        room: life.room,
                        time,
                        steps,
                        is_full: false,
                    };
                    let progress = running.advance(host, context, server, &mut sink, moved);
                    let is_full = sink.is_full;
                    match progress {
                        _ if is_full => Err(Failure::DiskFull),
                        Progress::Waits => return DownloadProgress::Waits,
                        Progress::Paused => Ok(()),
                        Progress::Done { .. } => {
                            *ended = true;
                            Ok(())
                        }
                        Progress::Failed(setback) => Err(Failure::Transfer(setback)),
                    }
                }
                DownloadOutput::Files(step) => {
                    *steps += 1;
                    let done = carry_out(&mut self.disk, step, &self.handle, life, context.dice);
                    match done {
                        Some(true) => {
                            download.handle_done(now);
                            Ok(())
                        }
                        Some(false) => Err(Failure::DiskFull),
                        None => {
                            // The process ended in the midst of it.
                            self.go_on(context);
                            *moved = true;
                            continue;
                        }
                    }
                }
                DownloadOutput::Done { len, resumed_from } => {
                    let target = self.disk.target.as_ref().map(|target| target.len() as u64);
                    assert_eq!(target, Some(len), "another file than was told");
                    assert!(resumed_from <= len);
                    assert_eq!(
                        (&self.disk.part, &self.disk.state),
                        (&None, &None),
                        "left over"
                    );
                    return DownloadProgress::Done { len, resumed_from };
                }
                DownloadOutput::Failed => match failure.clone().expect("a reason") {
                    Failure::Transfer(setback) => return DownloadProgress::Failed(setback),
                    Failure::DiskFull => {
                        assert!(life.room.is_some(), "there is room");
                        self.go_on(context);
                        Ok(())
                    }
                },
            };
            if let (Err(failed), Some(process)) = (result, &mut self.process) {
                let is_change = matches!(
                    failed,
                    Failure::Transfer(Setback::Fetch(FetchError::Changed))
                );
                process.download.handle_failed(now, is_change);
                process.ended = false;
                process.failure.get_or_insert(failed);
            }
            *moved = true;
        }
    }
}

/// Does what is to be done with the files. `Some(false)`: there is no room. `None`: the process ended
/// before it was all done.
fn carry_out(
    disk: &mut Disk,
    step: FileStep,
    handle: &str,
    life: Life,
    dice: &mut Dice,
) -> Option<bool> {
    // In a world where processes end, some end between the parts of a step.
    let mut ends_here = |disk: &mut Disk| {
        let ends = life.steps.is_some() && dice.chance(10);
        if ends && life.loses_power {
            disk.lose_power(dice);
        }
        ends
    };
    match step {
        FileStep::StoreState(state) => {
            let part = disk.part.as_ref().map_or(0, Vec::len) as u64;
            if life.room.is_some_and(|room| part >= room) && state.held > 0 {
                return Some(false);
            }
            if ends_here(disk) {
                return None;
            }
            let mut text = Vec::new();
            state.write(&mut text, handle);
            disk.state = Some(text);
            // The folder is synced for the state's sake.
            disk.part_is_named |= disk.part.is_some();
            if ends_here(disk) {
                return None;
            }
        }
        FileStep::OpenPart { len } => {
            disk.part_is_named &= disk.part.is_some();
            disk.cut(len);
        }
        FileStep::CutPart { len } => disk.cut(len),
        FileStep::SyncPart => disk.part_safe = disk.part.as_ref().map_or(0, Vec::len),
        FileStep::Finish => {
            disk.part_safe = disk.part.as_ref().map_or(0, Vec::len);
            if ends_here(disk) {
                return None;
            }
            disk.target = disk.part.take();
            (disk.part_safe, disk.part_is_named) = (0, false);
            if ends_here(disk) {
                return None;
            }
            disk.state = None;
        }
    }
    Some(true)
}

/// What a download is made of, by choice: processes that end, and a last one that need not.
pub(crate) fn lives(dice: &mut Dice, calm: bool, longest_pause: Time) -> Vec<Life> {
    let count = if calm { 0 } else { dice.below(4) };
    let mut lives: Vec<_> = (0..count)
        .map(|_| Life {
            steps: dice.chance(80).then(|| dice.below(30)),
            loses_power: dice.chance(50),
            room: dice.chance(20).then(|| dice.below(20_000)),
            pause_before: dice.below(longest_pause),
        })
        .collect();
    lives.push(Life {
        steps: None,
        loses_power: false,
        room: None,
        pause_before: 0,
    });
    lives
}
