//! Much at once, and far out.

use std::{
    io::{self, Read, Seek, SeekFrom, Write},
    process::Command,
    sync::{
        Arc, Barrier,
        atomic::{AtomicU64, Ordering},
    },
};

use cranpose_services::peer::{
    ByteSource, PeerClient, PeerServer, content_length, fetch_range, fetch_to_writer,
};

use crate::capability::{Capability, has};

/// A source of any length whose bytes follow from their places.
struct Virtual(u64);

fn byte_at(offset: u64) -> u8 {
    (offset ^ (offset >> 8) ^ (offset >> 32)) as u8
}

impl ByteSource for Virtual {
    fn len(&self) -> Option<u64> {
        Some(self.0)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.0.saturating_sub(offset);
        let len = usize::try_from(left).map_or(buf.len(), |left| buf.len().min(left));
        for (place, byte) in (offset..).zip(&mut buf[..len]) {
            *byte = byte_at(place);
        }
        Ok(len)
    }
}

fn serve(len: u64) -> PeerServer {
    let source: Arc<dyn ByteSource> = Arc::new(Virtual(len));
    let resolver = move |_: &str| Some(Arc::clone(&source));
    PeerServer::start("127.0.0.1:0", "secret", Arc::new(resolver)).unwrap()
}

const TIB: u64 = 1 << 40;

#[test]
fn positions_beyond_32_bits() {
    let len = 5 * TIB + 3;
    let server = serve(len);
    let base = server.local_addr().to_string();
    assert_eq!(content_length(&base, "secret", "a").unwrap(), Some(len));
    for start in [(1 << 32) - 5, 1 << 32, 5 * TIB - 12, len - 10] {
        let got = fetch_range(&base, "secret", "a", start, Some(10)).unwrap();
        assert_eq!(got.total_len, Some(len));
        let expected: Vec<_> = (start..start + 10).map(byte_at).collect();
        assert_eq!(got.bytes, expected, "{start}");
    }
    let got = fetch_range(&base, "secret", "a", len - 3, None).unwrap();
    assert_eq!(got.bytes.len(), 3);
    let client = PeerClient::builder(base, "secret").build().unwrap();
    let mut reader = client.reader("a").unwrap();
    let mut buf = [0; 7];
    reader.seek(SeekFrom::End(-7)).unwrap();
    reader.read_exact(&mut buf).unwrap();
    assert_eq!(buf[0], byte_at(len - 7));
}

#[test]
fn a_great_length_is_given_up_without_being_allocated() {
    /// Has enough after a little.
    struct Enough(u64);
    impl Write for Enough {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            self.0 += buf.len() as u64;
            if self.0 > 1_000_000 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            Ok(buf.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let server = serve(5 * TIB);
    let base = server.local_addr().to_string();
    let result = fetch_to_writer(&base, "secret", "a", 0, None, &mut Enough(0));
    assert!(result.is_err());
}

#[test]
fn two_hundred_at_once() {
    const COUNT: u64 = 200;
    let server = serve(10_000_000);
    let base = server.local_addr().to_string();
    let client = PeerClient::builder(base, "secret").build().unwrap();
    let together = Barrier::new(COUNT as usize);
    let received = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for index in 0..COUNT {
            let (client, together, received) = (&client, &together, &received);
            scope.spawn(move || {
                together.wait();
                let start = index * 40_000;
                let got = client.fetch_range("a", start, Some(30_000)).unwrap();
                assert!(
                    got.bytes
                        .iter()
                        .zip(start..)
                        .all(|(byte, at)| *byte == byte_at(at))
                );
                received.fetch_add(got.bytes.len() as u64, Ordering::Relaxed);
            });
        }
    });
    assert_eq!(received.into_inner(), COUNT * 30_000);
}

/// Each case in a process of its own, and a limit to each: what is written down of it comes from
/// the same program, run for ten times as much.
#[test]
fn memory_does_not_grow_with_what_comes() {
    let needed = [
        Capability::OwnPrograms,
        Capability::OwnNumbers,
        // Its memory would be the emulator's.
        Capability::NotEmulated,
    ];
    if !has(&needed) {
        return;
    }
    let mut measure = Command::new(env!("CARGO_BIN_EXE_measure"));
    let measured = measure.args(["memory", "1"]).output().unwrap();
    assert!(
        measured.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&measured.stdout),
        String::from_utf8_lossy(&measured.stderr)
    );
}
