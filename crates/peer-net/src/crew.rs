//! The threads of a server: how many there are, where they wait, and what waits for one of them.
//!
//! The accounting of `listener` and of a server's end, without sockets. One lock holds it all, so each
//! decision is one step, and nothing is decided by a count that is about to change.

use std::{
    collections::VecDeque,
    io,
    sync::PoisonError,
    time::{Duration, Instant},
};

use crate::{
    service::lock,
    sync::{AtomicUsize, Condvar, Mutex, MutexGuard, Ordering},
};

/// A listener's `accept`, where threads wait.
pub(crate) struct Post {
    /// Threads at `accept`, or on their way to it. Written under the crew's lock.
    waiting: AtomicUsize,
    /// Of these, those that have accepted a connection and stay: they may be about to leave with it, or
    /// with another one. The same holds for it.
    holding: AtomicUsize,
    /// More than so many, not holding any, do not come back to it.
    waiting_max: usize,
}

impl Post {
    /// A post for up to so many threads, at least one, beyond those that serve.
    pub(crate) fn new(waiting_max: usize) -> Self {
        Self {
            waiting: AtomicUsize::new(0),
            holding: AtomicUsize::new(0),
            waiting_max,
        }
    }

    /// Threads at `accept`, or on their way to it.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    /// A thread stays there with a connection.
    fn hold(&self) {
        self.holding.fetch_add(1, Ordering::Relaxed);
    }

    /// It has let it in, and put it aside.
    fn let_go(&self) {
        self.holding.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The threads, and the connections that were let in and wait for one that is about to end its own.
pub(crate) struct Crew<C> {
    state: Mutex<State<C>>,
    changed: Condvar,
    /// Connections that are let in at the same time.
    serving_max: usize,
    /// Threads, as far as those that wait do not leave connections without one.
    threads_max: usize,
}

struct State<C> {
    /// Threads that wait or serve.
    on_duty: usize,
    /// Of these, at any post.
    waiting: usize,
    /// Threads that have not ended: those on duty, and those about to end.
    alive: usize,
    aside: VecDeque<C>,
}

impl<C> State<C> {
    fn enter(&mut self, post: &Post) {
        self.waiting += 1;
        post.waiting.fetch_add(1, Ordering::Release);
    }

    fn leave(&mut self, post: &Post) {
        self.waiting -= 1;
        post.waiting.fetch_sub(1, Ordering::Release);
    }

    /// Counts one more thread in.
    fn recruit(&mut self) {
        self.on_duty += 1;
        self.alive += 1;
    }

    /// That thread did not come to be.
    fn dismiss(&mut self) {
        self.on_duty -= 1;
        self.alive -= 1;
    }
}

/// What a thread does next.
enum Next<C> {
    /// Serves this one.
    Serve(C),
    /// Starts another thread, which takes its place at the post. That one is counted already.
    Recruit,
    /// Goes to the post, or stays there.
    Accept,
    /// Ends.
    Leave,
}

/// Who is at the post in place of a thread that would leave it.
enum Relief {
    /// Others are there, and it has left.
    Others,
    /// A thread that it has to start, which is counted already. If it cannot, it stays.
    Recruit,
    /// Nobody: it stays.
    Nobody,
}

/// What a crew does with connections of type `C`.
pub(crate) trait Work<C> {
    /// Starts a thread for the post.
    fn spawn(&mut self) -> io::Result<()>;

    /// Lets the connection in that was just accepted. Without a thread for the post this one cannot
    /// serve it, which was the budget's fault, or the system's by this error.
    fn let_in(&mut self, error: Option<&io::Error>) -> Option<C>;

    /// Whether a connection that was let in has had to give way since.
    fn is_gone(connection: &C) -> bool;

    /// Serves a connection to its end.
    fn serve(&mut self, connection: C);
}

impl<C> Crew<C> {
    /// A crew for so many connections at the same time, and so many threads beyond these.
    pub(crate) fn new(serving_max: usize, beyond: usize) -> Self {
        Self {
            state: Mutex::new(State {
                on_duty: 0,
                waiting: 0,
                alive: 0,
                aside: VecDeque::new(),
            }),
            changed: Condvar::new(),
            serving_max,
            threads_max: serving_max.saturating_add(beyond),
        }
    }

    /// Counts a thread in that is about to be started, as the first one of its post.
    pub(crate) fn enlist(&self, post: &Post) {
        let mut state = self.lock();
        state.recruit();
        state.enter(post);
    }

    /// The thread that was enlisted could not be started.
    pub(crate) fn dismiss(&self, post: &Post) {
        let mut state = self.lock();
        state.dismiss();
        state.leave(post);
        self.changed.notify_all();
    }

    /// Does what follows from a connection that the current thread has accepted. Returns whether the
    /// thread is to end; otherwise it is at the post.
    pub(crate) fn take<W: Work<C>>(&self, post: &Post, work: &mut W) -> bool {
        let error = match self.relieve(post) {
            Relief::Others => None,
            Relief::Recruit => match work.spawn() {
                Ok(()) => None,
                Err(error) => {
                    let mut state = self.lock();
                    state.dismiss();
                    post.hold();
                    Some(Some(error))
                }
            },
            Relief::Nobody => Some(None),
        };
        let next = match error {
            None => {
                if let Some(connection) = work.let_in(None) {
                    work.serve(connection);
                }
                self.next(post)
            }
            Some(error) => {
                let connection = work.let_in(error.as_ref());
                let mut state = self.lock();
                post.let_go();
                state.aside.retain(|connection| !W::is_gone(connection));
                state.aside.extend(connection);
                let may_recruit = self.has_room(&state);
                Self::stay(&mut state, post, may_recruit)
            }
        };
        self.carry_on(next, post, work)
    }

    /// Takes the current thread off a post that is over. Returns whether it is to end; otherwise it
    /// is at the post again, having served what nobody else would have.
    pub(crate) fn depart<W: Work<C>>(&self, post: &Post, work: &mut W) -> bool {
        let mut state = self.lock();
        state.leave(post);
        let next = match state.aside.pop_front() {
            Some(connection) => Next::Serve(connection),
            None => {
                state.on_duty -= 1;
                Next::Leave
            }
        };
        drop(state);
        self.carry_on(next, post, work)
    }

    fn carry_on<W: Work<C>>(&self, mut next: Next<C>, post: &Post, work: &mut W) -> bool {
        loop {
            next = match next {
                Next::Serve(connection) => {
                    work.serve(connection);
                    self.next(post)
                }
                Next::Recruit if work.spawn().is_ok() => self.next(post),
                // What is aside waits for the next thread that ends, or connection that comes.
                Next::Recruit => {
                    let mut state = self.lock();
                    state.dismiss();
                    Self::stay(&mut state, post, false)
                }
                Next::Accept => return false,
                Next::Leave => return true,
            };
        }
    }

    /// The current thread, which is at the post, would leave it to serve. Somebody has to be there then:
    /// it leaves, or another thread takes its place, or it stays.
    fn relieve(&self, post: &Post) -> Relief {
        let mut state = self.lock();
        if post.waiting() > 1 {
            state.leave(post);
            Relief::Others
        } else if self.has_room(&state) {
            state.recruit();
            Relief::Recruit
        } else {
            post.hold();
            Relief::Nobody
        }
    }

    /// What a thread at the post does: it leaves it for what was put aside, if somebody else is there.
    fn stay(state: &mut State<C>, post: &Post, may_recruit: bool) -> Next<C> {
        if state.aside.is_empty() {
            return Next::Accept;
        }
        if post.waiting() > 1 {
            state.leave(post);
            return state.aside.pop_front().map_or(Next::Accept, Next::Serve);
        }
        if may_recruit {
            state.recruit();
            return Next::Recruit;
        }
        Next::Accept
    }

    /// What a thread does that is not at the post.
    fn next(&self, post: &Post) -> Next<C> {
        let mut state = self.lock();
        if let Some(connection) = state.aside.pop_front() {
            return Next::Serve(connection);
        }
        if post.waiting() - post.holding.load(Ordering::Relaxed) >= post.waiting_max {
            state.on_duty -= 1;
            return Next::Leave;
        }
        state.enter(post);
        Next::Accept
    }

    /// Whether there may be one more thread.
    ///
    /// Those that wait at other posts cannot be called from there, so they do not count against
    /// connections. Where there is no room, as many threads serve as connections are let in, at least:
    /// if one of these is aside, some thread is about to look for it.
    fn has_room(&self, state: &State<C>) -> bool {
        state.on_duty < self.threads_max || state.on_duty - state.waiting < self.serving_max
    }

    /// The current thread is not to be waited for at its post, though it will be back.
    pub(crate) fn step_out(&self, post: &Post) {
        self.lock().leave(post);
    }

    /// It is back.
    pub(crate) fn step_in(&self, post: &Post) {
        self.lock().enter(post);
    }

    /// A connection that was put aside and has found no thread.
    pub(crate) fn next_aside(&self) -> Option<C> {
        self.lock().aside.pop_front()
    }

    /// Threads that wait or serve.
    pub(crate) fn threads(&self) -> usize {
        self.lock().on_duty
    }

    /// A thread ends: the last that it does.
    pub(crate) fn end(&self) {
        self.lock().alive -= 1;
        self.changed.notify_all();
    }

    /// Waits until `done`, which must become true by a thread's end, or before a
    /// [`notify`](Self::notify). Returns whether it came to be in time.
    pub(crate) fn wait(&self, until: Instant, done: impl Fn() -> bool) -> bool {
        self.wait_for(until, |_| done())
    }

    /// Waits until no thread is left but `own`. Returns whether that came to be in time.
    pub(crate) fn wait_for_end(&self, own: usize, until: Instant) -> bool {
        self.wait_for(until, |state| state.alive <= own)
    }

    fn wait_for(&self, until: Instant, done: impl Fn(&State<C>) -> bool) -> bool {
        let mut state = self.lock();
        while !done(&state) {
            let left = until.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return false;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Has whoever waits look again.
    pub(crate) fn notify(&self) {
        // The lock makes sure that whoever has looked in vain is waiting by now.
        drop(self.lock());
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State<C>> {
        lock(&self.state)
    }
}

#[cfg(all(test, peer_models))]
mod models;
