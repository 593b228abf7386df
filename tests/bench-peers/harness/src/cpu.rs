//! Who used the CPUs: our two processes, and everybody else.

use std::{collections::HashMap, fs};

use rustix::{
    thread::{CpuSet, sched_setaffinity},
    time::{ClockId, clock_gettime},
};

/// Clock ticks of `/proc`: always a hundred to the second on Linux, whatever the kernel's own.
const TICKS_PER_SECOND: f64 = 100.0;

/// Places this thread, and every process it starts from now on.
pub(crate) fn pin(cpus: &[usize]) -> Result<(), String> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        set.set(cpu);
    }
    sched_setaffinity(None, &set).map_err(|error| format!("placement on CPUs {cpus:?}: {error}"))
}

/// CPU time of each thread of a process and its children, to the nanosecond; and how often it waited.
///
/// The sums that the kernel keeps of whole processes are shown in hundredths of a second, too
/// coarse for short runs.
#[derive(Default)]
pub(crate) struct Threads(HashMap<u64, [u64; 2]>);

impl Threads {
    pub(crate) fn read(processes: &[u32]) -> Self {
        let mut threads = Self::default();
        for &process in processes {
            threads.add(process);
        }
        threads
    }

    fn add(&mut self, process: u32) {
        let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else {
            return;
        };
        for thread in threads.flatten() {
            let read =
                |file: &str| fs::read_to_string(thread.path().join(file)).unwrap_or_default();
            let number = thread.file_name().to_string_lossy().parse();
            let nanoseconds = read("schedstat").split(' ').next().map(str::parse);
            let waits = field(&read("status"), "voluntary_ctxt_switches:").unwrap_or(0);
            if let (Ok(number), Some(Ok(nanoseconds))) = (number, nanoseconds) {
                self.0.insert(number, [nanoseconds, waits]);
            }
            for child in read("children").split_whitespace() {
                if let Ok(child) = child.parse() {
                    self.add(child);
                }
            }
        }
    }

    /// Seconds used since `before`. What a thread used that has ended since is not in it.
    pub(crate) fn since(&self, before: &Self) -> f64 {
        self.sum_since(before, 0) as f64 / 1e9
    }

    /// How often they gave the CPU up to wait for something since `before`.
    pub(crate) fn waits_since(&self, before: &Self) -> u64 {
        self.sum_since(before, 1)
    }

    fn sum_since(&self, before: &Self, which: usize) -> u64 {
        let grown = |(thread, now): (&u64, &[u64; 2])| {
            let then = before.0.get(thread).map_or(0, |then| then[which]);
            now[which].saturating_sub(then)
        };
        self.0.iter().map(grown).sum()
    }
}

/// The number that stands behind a name at the start of a line, as `/proc` writes many.
pub(crate) fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// CPU seconds that a process has used, with the threads that have ended: in hundredths.
pub(crate) fn process_seconds(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The second field is a name in parentheses, which may hold anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks
        .filter_map(|field| field.parse::<f64>().ok())
        .sum::<f64>()
        / TICKS_PER_SECOND
}

/// CPU seconds that this process has used, with the threads that have ended, to the nanosecond.
pub(crate) fn own_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// CPU seconds that everything has used on these CPUs.
pub(crate) fn busy(cpus: &[usize]) -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let mut ticks = 0.0;
    for line in stat.lines() {
        let mut fields = line.split_whitespace();
        let name = fields.next().unwrap_or_default();
        let cpu = name.strip_prefix("cpu").and_then(|cpu| cpu.parse().ok());
        if cpu.is_some_and(|cpu: usize| cpus.contains(&cpu)) {
            let fields: Vec<f64> = fields.filter_map(|field| field.parse().ok()).collect();
            // All but the two kinds of idle; guests are in user time already.
            ticks +=
                fields.iter().take(8).sum::<f64>() - fields.iter().skip(3).take(2).sum::<f64>();
        }
    }
    ticks / TICKS_PER_SECOND
}

/// CPU seconds of all child processes that have ended and were waited for.
pub(crate) fn children() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name, which may hold anything: the state is the third field, these two are the
    // sixteenth and seventeenth.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().skip(13).take(2);
    ticks
        .filter_map(|field| field.parse::<f64>().ok())
        .sum::<f64>()
        / TICKS_PER_SECOND
}
