//! An app that shares one file through a source of its own, with positional reads.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    sync::Arc,
};

use peer_net::{ByteSource, PeerServer, SourceResolver};
use peer_proto::EntityTag;

use crate::content::{HANDLE, TOKEN};

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

/// `serve FILE [lend]`: prints its port, and serves until its standard input ends.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let (path, lends) = match arguments {
        [path] => (path, false),
        [path, lend] if lend == "lend" => (path, true),
        _ => return Err("serve FILE [lend]".to_owned()),
    };
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
    let resolver: SourceResolver =
        Arc::new(move |handle: &str| (handle == HANDLE).then(|| Arc::clone(&track)));
    let server =
        PeerServer::start("127.0.0.1:0", TOKEN, resolver).map_err(|error| error.to_string())?;
    println!("{}", server.port());
    let _ = io::stdin().read_to_end(&mut Vec::new());
    Ok(())
}
