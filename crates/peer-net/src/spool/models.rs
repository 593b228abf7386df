//! The spool in every order of its threads: every reader gets every byte, and then the end or the
//! failure, and none waits for what has come.

use loom::thread;

use super::*;
use crate::sync::models::explore;

/// A stream of these pieces, which then ends or fails.
struct Pieces(std::vec::IntoIter<&'static [u8]>, Option<io::ErrorKind>);

impl Read for Pieces {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match (self.0.next(), self.1) {
            (Some(piece), _) => {
                buf[..piece.len()].copy_from_slice(piece);
                Ok(piece.len())
            }
            (None, Some(failure)) => Err(failure.into()),
            (None, None) => Ok(0),
        }
    }
}

/// Two readers, one of which begins behind the first byte, of a source that is written meanwhile.
fn read_while_written(memory_max: usize, failure: Option<io::ErrorKind>) {
    let shared = Arc::new(Shared {
        state: Mutex::default(),
        changed: Condvar::new(),
        abandoned: AtomicBool::new(false),
        memory_max,
    });
    let source = Arc::new(SpoolSource {
        shared: Arc::clone(&shared),
        content_type: None,
        entity_tag: EntityTag::strong("model").unwrap(),
        len: None,
    });
    let pieces: Vec<&'static [u8]> = vec![b"ab", b"c"];
    let writer = thread::spawn(move || shared.run(Pieces(pieces.into_iter(), failure)));
    let read_all = move |source: &SpoolSource, start: u64| {
        let mut got = Vec::new();
        let mut buf = [0; 2];
        let end = loop {
            match source.read_at(start + got.len() as u64, &mut buf) {
                Ok(0) => break None,
                Ok(n) => got.extend_from_slice(&buf[..n]),
                Err(error) => break Some(error.kind()),
            }
        };
        assert_eq!(got, &b"abc"[start as usize..]);
        assert_eq!(end, failure);
    };
    let reader = {
        let source = Arc::clone(&source);
        thread::spawn(move || read_all(&source, 1))
    };
    read_all(&source, 0);
    reader.join().unwrap();
    writer.join().unwrap();
    assert_eq!(source.len(), failure.is_none().then_some(3));
}

#[test]
fn every_reader_gets_all_and_the_end() {
    explore(Some(3), || read_while_written(SPOOL_MEMORY_BYTES, None));
}

#[test]
fn every_reader_gets_all_and_the_failure() {
    let failure = Some(io::ErrorKind::BrokenPipe);
    explore(Some(3), move || {
        read_while_written(SPOOL_MEMORY_BYTES, failure)
    });
}

#[test]
fn every_reader_gets_all_where_memory_ends_and_the_file_begins() {
    explore(Some(2), || read_while_written(1, None));
}
