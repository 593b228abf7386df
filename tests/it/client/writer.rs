//! `fetch_to_writer` and writers that do not take everything.

use std::io::{self, ErrorKind, Write};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use cranpose_services::peer::{PeerError, fetch_to_writer};
use peer_tests::script::{Modern, ScriptServer, Track};

use super::table::{CONTENT, HANDLE, TOKEN};

/// What a writer does with the bytes it is given.
#[derive(Clone, Copy, Debug)]
enum Habit {
    /// Takes this many at a time.
    Short(usize),
    /// Is interrupted before each write that succeeds.
    Interrupted,
    /// Takes this many, then fails.
    Fails(usize, ErrorKind),
    /// Takes this many, then no more, without an error.
    Full(usize),
}

struct Moody {
    habit: Habit,
    taken: Vec<u8>,
    interrupted: bool,
}

impl Write for Moody {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = match self.habit {
            Habit::Short(most) => bytes.len().min(most),
            Habit::Interrupted => {
                self.interrupted = !self.interrupted;
                if self.interrupted {
                    return Err(ErrorKind::Interrupted.into());
                }
                bytes.len()
            }
            Habit::Fails(at, kind) => match at - self.taken.len() {
                0 => return Err(kind.into()),
                room => bytes.len().min(room),
            },
            Habit::Full(at) => bytes.len().min(at - self.taken.len()),
        };
        self.taken.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn habits() {
    // More than one block of any size a client would choose.
    let source: Vec<u8> = CONTENT.iter().copied().cycle().take(3_000_000).collect();
    let habits = [
        (Habit::Short(1_000_003), None),
        (Habit::Short(977), None),
        (Habit::Interrupted, None),
        (
            Habit::Fails(0, ErrorKind::StorageFull),
            Some(ErrorKind::StorageFull),
        ),
        (
            Habit::Fails(1, ErrorKind::BrokenPipe),
            Some(ErrorKind::BrokenPipe),
        ),
        (
            Habit::Fails(70_000, ErrorKind::PermissionDenied),
            Some(ErrorKind::PermissionDenied),
        ),
        (
            Habit::Fails(2_999_994, ErrorKind::Other),
            Some(ErrorKind::Other),
        ),
        // Kinds that a socket's timeout has too: a writer's own error stays the writer's.
        (
            Habit::Fails(10, ErrorKind::WouldBlock),
            Some(ErrorKind::WouldBlock),
        ),
        (
            Habit::Fails(10, ErrorKind::TimedOut),
            Some(ErrorKind::TimedOut),
        ),
        (
            Habit::Fails(10, ErrorKind::UnexpectedEof),
            Some(ErrorKind::UnexpectedEof),
        ),
        (Habit::Full(0), Some(ErrorKind::WriteZero)),
        (Habit::Full(100_000), Some(ErrorKind::WriteZero)),
    ];
    let server =
        ScriptServer::start(Modern::new(TOKEN, vec![Track::new(HANDLE, &source)]).script());
    let mut failures = Vec::new();
    for (habit, failure) in habits {
        let (done, result) = mpsc::channel();
        let base = server.base();
        thread::spawn(move || {
            let mut writer = Moody {
                habit,
                taken: Vec::new(),
                interrupted: false,
            };
            let result = fetch_to_writer(&base, TOKEN, HANDLE, 5, None, &mut writer);
            drop(done.send((result, writer.taken)));
        });
        let Ok((result, taken)) = result.recv_timeout(Duration::from_secs(20)) else {
            failures.push(format!("{habit:?}: hangs or panics"));
            continue;
        };
        let expected_taken = match habit {
            Habit::Short(_) | Habit::Interrupted => source.len() - 5,
            Habit::Fails(at, _) | Habit::Full(at) => at,
        };
        let right = match (&result, failure) {
            (Ok(total), None) => *total == Some(source.len() as u64),
            (Err(PeerError::Io(error)), Some(kind)) => error.kind() == kind,
            _ => false,
        };
        if !right || taken.len() != expected_taken || !source[5..].starts_with(&taken) {
            failures.push(format!(
                "{habit:?}: expected {failure:?} after {expected_taken} bytes, got {result:?} \
                 after {}",
                taken.len()
            ));
        }
    }
    // A transfer that was given up leaves nothing for the next one to stumble over.
    let mut sink = Vec::new();
    let total = fetch_to_writer(&server.base(), TOKEN, HANDLE, 0, Some(9), &mut sink);
    if !matches!(total, Ok(Some(3_000_000))) || sink != source[..9] {
        failures.push(format!("afterwards: {total:?}, {} bytes", sink.len()));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
