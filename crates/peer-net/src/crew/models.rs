//! The crew in every order of its threads: what is accepted is served, somebody is at `accept`, and the
//! counts are exact.

use std::{io, sync::Arc, time::Duration};

use loom::thread;

use super::*;
use crate::sync::{AtomicBool, models::explore};

/// Listeners with connections to be accepted. There is room for one connection, so each newcomer makes
/// the one before give way; none ends before all have come.
///
/// Threads at `accept` of a listener where nobody comes any more are counted, but not run.
struct World {
    crew: Crew<Arc<Peer>>,
    posts: Vec<Post>,
    state: Mutex<Happened>,
    changed: Condvar,
    /// Connections that come.
    peers: usize,
    /// The thread that is not to be had, by its number.
    missing: Option<usize>,
}

#[derive(Default)]
struct Happened {
    /// How many wait to be accepted, by listener.
    backlogs: Vec<usize>,
    spawned: usize,
    threads: Vec<thread::JoinHandle<()>>,
    /// Let in, in this order: all but the last have to give way.
    came: Vec<Arc<Peer>>,
}

#[derive(Default)]
struct Peer {
    gone: AtomicBool,
    served: AtomicBool,
}

/// Has so many connections come by each listener, and looks what became of them.
fn come(backlogs: &[usize], missing: Option<usize>) {
    let world = Arc::new(World {
        crew: Crew::new(1, 1),
        posts: backlogs.iter().map(|_| Post::new(1)).collect(),
        state: Mutex::new(Happened {
            backlogs: backlogs.to_vec(),
            ..Happened::default()
        }),
        changed: Condvar::new(),
        peers: backlogs.iter().sum(),
        missing,
    });
    for at in 0..backlogs.len() {
        world.crew.enlist(&world.posts[at]);
        start(&world, at);
    }
    loop {
        let Some(thread) = lock(&world.state).threads.pop() else {
            break;
        };
        thread.join().unwrap();
    }
    let came = std::mem::take(&mut lock(&world.state).came);
    assert_eq!(came.len(), world.peers);
    for peer in came {
        let (gone, served) = (&peer.gone, &peer.served);
        let is_seen_to = gone.load(Ordering::Relaxed) || served.load(Ordering::Relaxed);
        assert!(is_seen_to, "put aside and forgotten");
    }
    let waiting: Vec<_> = world.posts.iter().map(Post::waiting).collect();
    assert!(waiting.iter().all(|waiting| *waiting > 0), "nobody waits");
    let state = world.crew.lock();
    assert_eq!(state.waiting, waiting.iter().sum::<usize>());
    assert_eq!((state.on_duty, state.alive), (state.waiting, state.waiting));
    assert!(state.on_duty <= 1 + backlogs.len(), "{}", state.on_duty);
}

/// Runs a thread at a listener that has somebody to accept.
fn start(world: &Arc<World>, at: usize) {
    let mut state = lock(&world.state);
    if state.backlogs[at] > 0 {
        let world = Arc::clone(world);
        state.threads.push(thread::spawn(move || run(&world, at)));
    }
}

fn run(world: &Arc<World>, at: usize) {
    loop {
        {
            let mut state = lock(&world.state);
            if state.backlogs[at] == 0 {
                return;
            }
            state.backlogs[at] -= 1;
        }
        let mut work = Hands { world, at };
        if world.crew.take(&world.posts[at], &mut work) {
            return world.crew.end();
        }
    }
}

struct Hands<'a> {
    world: &'a Arc<World>,
    at: usize,
}

impl Work<Arc<Peer>> for Hands<'_> {
    fn spawn(&mut self) -> io::Result<()> {
        let mut state = lock(&self.world.state);
        state.spawned += 1;
        if self.world.missing == Some(state.spawned - 1) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        drop(state);
        start(self.world, self.at);
        Ok(())
    }

    fn let_in(&mut self, _: Option<&io::Error>) -> Option<Arc<Peer>> {
        let peer = Arc::new(Peer::default());
        let mut state = lock(&self.world.state);
        if let Some(older) = state.came.last() {
            older.gone.store(true, Ordering::Relaxed);
        }
        state.came.push(Arc::clone(&peer));
        drop(state);
        self.world.changed.notify_all();
        Some(peer)
    }

    fn is_gone(peer: &Arc<Peer>) -> bool {
        peer.gone.load(Ordering::Relaxed)
    }

    fn serve(&mut self, peer: Arc<Peer>) {
        assert!(!peer.served.swap(true, Ordering::Relaxed), "by two");
        let waiting = self.world.posts[self.at].waiting();
        assert!(waiting > 0, "nobody is at accept meanwhile");
        let mut state = lock(&self.world.state);
        while state.came.len() < self.world.peers {
            state = self.world.changed.wait(state).unwrap();
        }
    }
}

/// The second connection is accepted while the first one is served, and is served itself.
#[test]
fn the_newest_is_served_where_the_threads_are_used_up() {
    explore(Some(3), || come(&[2], None));
}

/// Over two listeners: threads that wait at the one leave the other enough, and what is put aside
/// there is not forgotten by a thread that comes back here.
#[test]
fn the_newest_is_served_whichever_listener_it_came_by() {
    explore(Some(2), || come(&[1, 1], None));
}

/// Nobody leaves `accept` for a successor that then could not be started.
#[test]
fn somebody_is_at_accept_where_the_system_has_no_thread() {
    for missing in [0, 1] {
        explore(Some(3), move || come(&[2], Some(missing)));
    }
}

/// Who waits for the end of all threads, and who waits for something else, is woken by it, whatever
/// else happens meanwhile.
#[test]
fn the_end_of_the_last_thread_wakes_whoever_waits() {
    explore(Some(3), || {
        let crew = Arc::new(Crew::<()>::new(1, 1));
        let post = Arc::new(Post::new(2));
        let flag = Arc::new(AtomicBool::new(false));
        for is_first in [true, false] {
            crew.enlist(&post);
            let (crew, post, flag) = (Arc::clone(&crew), Arc::clone(&post), Arc::clone(&flag));
            thread::spawn(move || {
                if is_first {
                    flag.store(true, Ordering::Relaxed);
                    crew.notify();
                }
                let mut state = crew.lock();
                state.leave(&post);
                state.on_duty -= 1;
                drop(state);
                crew.end();
            });
        }
        let until = Instant::now() + Duration::from_secs(3600);
        assert!(crew.wait(until, || flag.load(Ordering::Relaxed)));
        assert!(crew.wait_for_end(0, until));
        assert_eq!((crew.threads(), post.waiting()), (0, 0));
    });
}
