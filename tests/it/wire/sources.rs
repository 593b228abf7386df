//! The servers of the tables, and what they serve.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cranpose_services::peer::{ByteSource, BytesSource, EntityTag, PeerServer, SourceResolver};

use super::{BIG, HUGE, LETTERS, LETTERS_DATE, MIDDLE, PROBE, TOKEN, UNKNOWN};

/// Copies the bytes of a patterned source from `offset` on into `buf`.
///
/// The pattern repeats after a prime number of bytes, so that no block, no page and no wrapped
/// number begins where another did; it is copied from a table, since tests run unoptimised.
pub(super) fn fill_pattern(offset: u64, buf: &mut [u8]) {
    const PERIOD: usize = 65_521;
    static TABLE: OnceLock<Vec<u8>> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let byte = |i: u64| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8;
        (0..PERIOD as u64).map(byte).collect()
    });
    let mut at = (offset % PERIOD as u64) as usize;
    let mut rest = buf;
    while !rest.is_empty() {
        let n = rest.len().min(PERIOD - at);
        let (now, later) = rest.split_at_mut(n);
        now.copy_from_slice(&table[at..at + n]);
        (rest, at) = (later, 0);
    }
}

/// The bytes of a patterned source from `offset` on.
pub(super) fn patterned(offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fill_pattern(offset, &mut bytes);
    bytes
}

/// A source whose bytes are computed: of any length, and silent about it where asked to be.
struct Patterned {
    len: u64,
    tells_len: bool,
}

impl ByteSource for Patterned {
    fn len(&self) -> Option<u64> {
        self.tells_len.then_some(self.len)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let n = left.min(buf.len());
        fill_pattern(offset, &mut buf[..n]);
        Ok(n)
    }
}

/// What an app written against the documented names has: `len` and `read_at`, nothing else.
pub(super) struct Bare(pub(super) &'static [u8]);

impl ByteSource for Bare {
    fn len(&self) -> Option<u64> {
        Some(self.0.len() as u64)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let rest = &self.0[usize::try_from(offset).unwrap().min(self.0.len())..];
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }
}

pub(super) fn after_epoch(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

pub(super) fn tagged(content: &[u8], tag: &str) -> BytesSource {
    BytesSource::new(content.to_vec()).with_entity_tag(EntityTag::strong(tag).unwrap())
}

/// The sources of the tables, by handle.
pub(super) fn sources() -> BTreeMap<String, Arc<dyn ByteSource>> {
    let mut map: BTreeMap<String, Arc<dyn ByteSource>> = BTreeMap::new();
    let mut offer = |handle: &str, source: Arc<dyn ByteSource>| {
        assert!(
            map.insert(handle.to_owned(), source).is_none(),
            "{handle} twice"
        );
    };
    let letters = tagged(LETTERS, "letters-1")
        .with_content_type("audio/x-letters")
        .with_last_modified(after_epoch(LETTERS_DATE));
    offer("letters", Arc::new(letters));
    offer("probe", Arc::new(tagged(PROBE, "probe")));
    offer("plain", Arc::new(BytesSource::new(LETTERS.to_vec())));
    offer("empty", Arc::new(BytesSource::new(Vec::new())));
    offer("one", Arc::new(BytesSource::new(b"x".to_vec())));
    offer("comma", Arc::new(tagged(LETTERS, "a,b")));
    offer("bare", Arc::new(Bare(LETTERS)));
    offer(
        "dated",
        Arc::new(Dated {
            content: LETTERS,
            modified: after_epoch(LETTERS_DATE),
        }),
    );
    offer(
        "big",
        Arc::new(Patterned {
            len: BIG,
            tells_len: true,
        }),
    );
    offer(
        "middle",
        Arc::new(Patterned {
            len: MIDDLE,
            tells_len: true,
        }),
    );
    offer(
        "huge",
        Arc::new(Patterned {
            len: HUGE,
            tells_len: true,
        }),
    );
    offer(
        "max",
        Arc::new(Patterned {
            len: u64::MAX,
            tells_len: true,
        }),
    );
    offer(
        "unknown",
        Arc::new(Patterned {
            len: UNKNOWN,
            tells_len: false,
        }),
    );
    offer(
        "unknown-empty",
        Arc::new(Patterned {
            len: 0,
            tells_len: false,
        }),
    );
    for handle in ODD_HANDLES {
        offer(
            handle,
            Arc::new(BytesSource::new(handle.as_bytes().to_vec())),
        );
    }
    map
}

/// Handles that need encoding, or look like something that a server might treat; the content of
/// each is its own name.
pub(super) const ODD_HANDLES: &[&str] = &[
    "a b",
    "a+b",
    "a/b/c",
    "/slash first",
    "slash last/",
    "a//b",
    ".",
    "..",
    "../letters",
    "dots/../up",
    "./here",
    "what?",
    "a#b",
    "50%",
    "%41",
    "a&b=c;d",
    "ünïcode",
    "日本語",
    "🎵",
    "e\u{301}",
    "\u{e9}",
    "nul\0inside",
    "line\r\nbreak",
    "~tilde_under-score.dot",
    "LETTERS",
    "letters ",
    " letters",
    "http://peer.test/track/x",
    "\\windows\\path",
    "\"quoted\"<b>",
];

/// Content with a modification time and no entity-tag.
struct Dated {
    content: &'static [u8],
    modified: SystemTime,
}

impl ByteSource for Dated {
    fn len(&self) -> Option<u64> {
        Some(self.content.len() as u64)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        Bare(self.content).read_at(offset, buf)
    }

    fn last_modified(&self) -> Option<SystemTime> {
        Some(self.modified)
    }
}

/// A server of the tables' sources.
pub(super) fn start() -> PeerServer {
    start_with(sources())
}

/// A server of `map`, which always offers the probe as well.
pub(super) fn start_with(mut map: BTreeMap<String, Arc<dyn ByteSource>>) -> PeerServer {
    map.entry("probe".to_owned())
        .or_insert_with(|| Arc::new(tagged(PROBE, "probe")));
    let resolver: SourceResolver = Arc::new(move |handle: &str| map.get(handle).cloned());
    PeerServer::start("127.0.0.1:0", TOKEN, resolver).unwrap()
}
