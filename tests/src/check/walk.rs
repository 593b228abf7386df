//! Walks over every state that a machine can reach, and feeds it every fact in each of them.
//!
//! Not a sample: a walk goes on until no fact leads to a state that was not seen. So that it ends,
//! the world around the machine is small: a source of three bytes, a peer that sends no more than a
//! few pieces out of a table, a clock that moves only where a deadline is waited for.
//!
//! States are told apart by a key: the machine's `Debug`, what it asks for, how far its deadline is,
//! and what is left in its world. A key that leaves something out would hide states, so up to
//! `WAYS` ways to each one are followed, and have to lead on to the same states.

use std::{
    any::Any,
    collections::{BTreeSet, HashMap, VecDeque},
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

mod fetch;
mod server;
mod transfer;

pub use fetch::fetches;
pub use server::servers;
pub use transfer::transfers;

/// Ways to one state that are followed.
const WAYS: usize = 2;

/// What a walk has seen.
#[derive(Clone, Debug, Default)]
pub struct Walked {
    /// States that differ.
    pub states: usize,
    /// Facts that were fed, each in a state of its own.
    pub facts: usize,
    /// Facts among them that only a driver with a bug states.
    pub bugs: usize,
    /// States that are the end.
    pub ends: usize,
    /// Most facts between any state and the end once nothing new comes from the peer, whatever else
    /// happens.
    pub longest: usize,
    /// Names of the states that were reached.
    pub names: BTreeSet<String>,
}

impl Walked {
    /// Adds what another walk has seen.
    fn add(&mut self, other: Self) {
        self.states += other.states;
        self.facts += other.facts;
        self.bugs += other.bugs;
        self.ends += other.ends;
        self.longest = self.longest.max(other.longest);
        self.names.extend(other.names);
    }

    /// The names, in order.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        self.names.iter().map(String::as_str).collect()
    }
}

impl fmt::Display for Walked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} states, {} of them ends; {} facts, {} of them a driver's bugs; at most {} more to the \
             end",
            self.states, self.ends, self.facts, self.bugs, self.longest
        )
    }
}

/// What a fact does to a machine in its state, as documented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// Whatever it does, it may.
    Change,
    /// It changes nothing.
    Nothing,
    /// It panics, or changes nothing: only a driver with a bug states it.
    Bug,
    /// It cannot be stated in this world.
    Impossible,
}

/// A machine, and its world.
trait Machine: Clone {
    /// What can be stated.
    type Fact: Copy + fmt::Debug + 'static;

    /// All there is to state.
    const FACTS: &'static [Self::Fact];

    /// What it says of a driver with a bug.
    const BUGS: &'static [&'static str];

    /// What it does here.
    fn expected(&self, fact: Self::Fact) -> Expected;

    /// Whether it may still happen when the peer sends nothing new, and may not happen for ever.
    fn goes_on_without_peer(&self, fact: Self::Fact) -> bool;

    /// States it.
    fn feed(&mut self, fact: Self::Fact);

    /// What tells this state from others.
    fn key(&self) -> String;

    /// What the state is called.
    fn name(&self) -> String;

    /// Whether it is over.
    fn is_over(&self) -> bool;

    /// The laws of every state.
    fn check(&self);
}

/// The states seen so far.
#[derive(Default)]
struct Graph {
    numbers: HashMap<String, usize>,
    nodes: Vec<Node>,
}

#[derive(Default)]
struct Node {
    /// Ways to it that were taken, or are to be.
    ways: usize,
    /// What each fact leads to, by the first of them.
    leads_to: Option<Vec<Option<usize>>>,
    /// Where it may go when the peer sends nothing new.
    without_peer: BTreeSet<usize>,
}

impl Graph {
    fn number(&mut self, key: String) -> usize {
        let new = self.nodes.len();
        let number = *self.numbers.entry(key).or_insert(new);
        if number == new {
            self.nodes.push(Node::default());
        }
        number
    }

    /// Most steps from any state to the end, when the peer sends nothing new.
    ///
    /// # Panics
    /// Where there is a way round, which need not end.
    fn longest(&self) -> usize {
        const UNKNOWN: usize = usize::MAX;
        const OPEN: usize = usize::MAX - 1;
        let mut lengths = vec![UNKNOWN; self.nodes.len()];
        for first in 0..self.nodes.len() {
            let mut stack = vec![first];
            while let Some(&number) = stack.last() {
                let on = &self.nodes[number].without_peer;
                if lengths[number] == UNKNOWN {
                    lengths[number] = OPEN;
                    for &next in on {
                        assert!(lengths[next] != OPEN, "there is a way round {next}");
                        if lengths[next] == UNKNOWN {
                            stack.push(next);
                        }
                    }
                } else {
                    stack.pop();
                    if lengths[number] == OPEN {
                        let longest = on.iter().map(|&next| lengths[next] + 1).max();
                        lengths[number] = longest.unwrap_or(0);
                    }
                }
            }
        }
        lengths.into_iter().max().unwrap_or(0)
    }
}

/// Feeds every fact in every state that can be reached from `start`.
///
/// # Panics
/// Where a law does not hold, with the facts that led there.
fn walk<M: Machine>(start: &M) -> Walked {
    let mut walked = Walked::default();
    let mut graph = Graph::default();
    let mut tried_bugs = BTreeSet::new();
    let mut paths = VecDeque::from([Vec::new()]);
    graph.number(start.key());
    while let Some(path) = paths.pop_front() {
        let mut machine = start.clone();
        for &fact in &path {
            machine.feed(M::FACTS[fact]);
        }
        let story = || {
            let facts: Vec<_> = path.iter().map(|&fact| M::FACTS[fact]).collect();
            format!("after {facts:?}")
        };
        assert!(
            catch_unwind(AssertUnwindSafe(|| machine.check())).is_ok(),
            "{}",
            story()
        );
        let key = machine.key();
        let here = graph.number(key.clone());
        walked.names.insert(machine.name());
        let mut leads_to = Vec::with_capacity(M::FACTS.len());
        let mut without_peer = BTreeSet::new();
        for (number, &fact) in M::FACTS.iter().enumerate() {
            let expected = machine.expected(fact);
            let is_tried = expected == Expected::Bug
                && cfg!(debug_assertions)
                && !tried_bugs.insert((kind_of(&machine.name()), kind_of(&format!("{fact:?}"))));
            if expected == Expected::Impossible || is_tried {
                // A panic takes its time: once for each kind of state and of fact is enough.
                leads_to.push(None);
                continue;
            }
            walked.facts += 1;
            let mut next = machine.clone();
            let fed = catch_unwind(AssertUnwindSafe(|| next.feed(fact)));
            if expected == Expected::Bug {
                walked.bugs += 1;
                match fed {
                    Ok(()) => assert_eq!(next.key(), key, "{fact:?} {}", story()),
                    Err(panic) => {
                        let text = text_of(&*panic);
                        let is_told = M::BUGS.iter().any(|bug| text.contains(bug));
                        assert!(is_told, "{fact:?}: {text} {}", story());
                    }
                }
                leads_to.push(None);
                continue;
            }
            assert!(fed.is_ok(), "{fact:?} panics {}", story());
            let next_key = next.key();
            if expected == Expected::Nothing || machine.is_over() {
                assert_eq!(next_key, key, "{fact:?} changes something {}", story());
            }
            let to = graph.number(next_key);
            leads_to.push(Some(to));
            if to == here {
                continue;
            }
            if machine.goes_on_without_peer(fact) {
                without_peer.insert(to);
            }
            let node = &mut graph.nodes[to];
            if node.ways < WAYS {
                node.ways += 1;
                paths.push_back([&path[..], &[number]].concat());
            }
        }
        let is_over = machine.is_over();
        assert!(
            is_over || !without_peer.is_empty(),
            "waits for the peer for ever {}",
            story()
        );
        let node = &mut graph.nodes[here];
        if let Some(before) = &node.leads_to {
            for ((fact, before), now) in M::FACTS.iter().zip(before).zip(&leads_to) {
                let is_one = before.is_none() || now.is_none() || before == now;
                assert!(
                    is_one,
                    "{fact:?} leads two ways from what looks like one state {}",
                    story()
                );
            }
        } else {
            walked.ends += usize::from(is_over);
            node.leads_to = Some(leads_to);
            node.without_peer = without_peer;
        }
    }
    walked.states = graph.nodes.len();
    walked.longest = graph.longest();
    walked
}

/// The name of a state, or of a fact, without its details.
fn kind_of(name: &str) -> String {
    let end = name.find([':', ',', '(', '{']).unwrap_or(name.len());
    name[..end].to_owned()
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    match panic.downcast_ref::<String>() {
        Some(text) => text,
        None => panic.downcast_ref::<&str>().unwrap_or(&""),
    }
}
