//! An app that shares one file through a source of its own, with positional reads; and, of any
//! length, what it computes.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    sync::Arc,
};

use peer_core::admission::Limits;
use peer_net::{ByteSource, PeerServer, PeerServerBuilder, SourceResolver};
use peer_proto::EntityTag;

use crate::content::{self, HANDLE, TOKEN};

/// What an app allows that expects masses of peers behind one address.
const MANY: Limits = Limits {
    strangers: 600,
    strangers_per_address: 600,
    paired: 600,
    paired_per_address: 600,
};

/// What an app that knows its file would write.
struct Track {
    file: File,
    len: u64,
    entity_tag: EntityTag,
    /// Whether the kernel may send from the file, with the feature `sendfile`.
    lends: bool,
}

impl ByteSource for Track {
    fn len(&self) -> Option<u64> {
        Some(self.len)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn content_type(&self) -> Option<&str> {
        Some("audio/flac")
    }

    fn entity_tag(&self) -> Option<EntityTag> {
        Some(self.entity_tag)
    }

    fn file(&self) -> Option<&File> {
        self.lends.then_some(&self.file)
    }
}

/// What is as long as its handle says, and on no disk.
pub(crate) struct Computed {
    pub(crate) len: u64,
}

impl ByteSource for Computed {
    fn len(&self) -> Option<u64> {
        Some(self.len)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let n = left.min(buf.len());
        content::fill(&mut buf[..n], offset);
        Ok(n)
    }
}

/// `serve FILE [lend] [many]`: prints its port, and serves until its standard input ends.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let Some((path, words)) = arguments.split_first() else {
        return Err("serve FILE [lend] [many]".to_owned());
    };
    let has = |name: &str| words.iter().any(|word| word == name);
    let lends = has("lend");
    let track = (|| {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        io::Result::Ok(Track {
            file,
            len,
            entity_tag: EntityTag::strong("v1").expect("two letters are a tag"),
            lends,
        })
    })();
    let track: Arc<dyn ByteSource> = Arc::new(track.map_err(|error| format!("{path}: {error}"))?);
    let resolver: SourceResolver = Arc::new(move |handle: &str| {
        if handle == HANDLE {
            return Some(Arc::clone(&track));
        }
        let len = handle.parse().ok()?;
        Some(Arc::new(Computed { len }))
    });
    let builder = PeerServer::builder(TOKEN, resolver);
    let builder = if has("many") {
        builder.limits(MANY)
    } else {
        builder
    };
    let server = builder
        .listen("127.0.0.1:0")
        .and_then(PeerServerBuilder::start);
    let server = server.map_err(|error| error.to_string())?;
    println!("{}", server.port());
    let _ = io::stdin().read_to_end(&mut Vec::new());
    Ok(())
}
