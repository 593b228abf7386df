//! What is shared: a fixed set of handles, each naming one file.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use cranpose_services::peer::{ByteSource, BytesSource, FileSource};
use serde_json::{Value, json};

use crate::Outcome;

/// The handle under which the catalogue itself is offered.
pub(crate) const LIBRARY: &str = "library";

/// The files that are shared, by handle.
///
/// A handle is looked up in this table and never becomes a path, so no handle reaches a file
/// that was not listed. The files are opened when a peer asks, as they are then.
pub(crate) struct Catalogue {
    files: BTreeMap<String, PathBuf>,
}

impl Catalogue {
    /// Lists these files, and all files in these folders.
    ///
    /// A file in a folder has its path in that folder as its handle, with `/` on every system.
    pub(crate) fn of(paths: &[PathBuf]) -> Outcome<Self> {
        let mut catalogue = Self {
            files: BTreeMap::new(),
        };
        for path in paths {
            let about = |error| format!("{}: {error}", path.display());
            let real = fs::canonicalize(path).map_err(about)?;
            let kind = fs::metadata(&real).map_err(about)?;
            if kind.is_dir() {
                // A folder inside that cannot be read is left out; the one asked for must be.
                let entries = fs::read_dir(&real).map_err(about)?;
                catalogue.add_folder(entries, "");
            } else if kind.is_file() {
                let name = path.file_name().or(real.file_name()).unwrap_or_default();
                catalogue.add_file(name.to_string_lossy().into_owned(), real.clone());
            } else {
                return Err(format!("{}: neither a file nor a folder", path.display()).into());
            }
        }
        Ok(catalogue)
    }

    fn add_folder(&mut self, entries: fs::ReadDir, prefix: &str) {
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => return note(&format!("left out the rest of {prefix:?}: {error}")),
            };
            let name = entry.file_name();
            let handle = format!("{prefix}{}", name.to_string_lossy());
            // `file_type` does not follow a symbolic link, so a link is neither: it could lead
            // out of the folder, or round in a circle.
            match entry.file_type() {
                _ if name.as_encoded_bytes().starts_with(b".") => {}
                Ok(kind) if kind.is_file() => self.add_file(handle, entry.path()),
                Ok(kind) if kind.is_dir() => match fs::read_dir(entry.path()) {
                    Ok(entries) => self.add_folder(entries, &format!("{handle}/")),
                    Err(error) => note(&format!("left out {handle:?}: {error}")),
                },
                _ => note(&format!("left out {handle:?}: not a plain file")),
            }
        }
    }

    /// Two files may come to the same handle, from two folders: the later one gets a number.
    fn add_file(&mut self, handle: String, path: PathBuf) {
        let taken = |handle: &String| handle == LIBRARY || self.files.contains_key(handle);
        let numbered = (2..).map(|number| format!("{handle} ({number})"));
        let mut handles = std::iter::once(handle.clone()).chain(numbered);
        if let Some(handle) = handles.find(|handle| !taken(handle)) {
            self.files.insert(handle, path);
        }
    }

    /// How many files are listed.
    pub(crate) fn len(&self) -> usize {
        self.files.len()
    }

    /// The source behind a handle, as a `PeerServer` asks for it.
    pub(crate) fn resolve(&self, handle: &str) -> Option<Arc<dyn ByteSource>> {
        if handle == LIBRARY {
            let json = Value::Array(self.items()).to_string();
            return Some(Arc::new(
                BytesSource::new(json.into_bytes()).with_content_type("application/json"),
            ));
        }
        let path = self.files.get(handle)?;
        match open(path) {
            Ok(source) => Some(Arc::new(source)),
            Err(error) => {
                note(&format!("cannot open {handle:?}: {error}"));
                None
            }
        }
    }

    /// One object for each file that can be opened now.
    fn items(&self) -> Vec<Value> {
        let item = |(handle, path): (&String, &PathBuf)| {
            let source = open(path).ok()?;
            let name = handle.rsplit('/').next();
            Some(json!({
                "name": name,
                "handle": handle,
                "length": source.len(),
                "type": source.content_type(),
            }))
        };
        self.files.iter().filter_map(item).collect()
    }
}

/// Opens a listed file, if the path still leads where it led when it was listed.
fn open(path: &Path) -> io::Result<FileSource> {
    // The path was free of links then. If it is not now, something outside took its place.
    if fs::canonicalize(path)? != path {
        return Err(io::Error::other("its path leads elsewhere now"));
    }
    FileSource::open(path)
}

/// Tells whoever runs the example; sharing goes on even if nobody can be told any more.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "peer: {text}");
}

/// An item of some peer's catalogue.
pub(crate) struct Item {
    pub(crate) handle: String,
    pub(crate) length: Option<u64>,
    pub(crate) media_type: Option<String>,
}

/// Reads a catalogue that a peer sent.
pub(crate) fn parse(json: &[u8]) -> Outcome<Vec<Item>> {
    let value: Value = serde_json::from_slice(json)
        .map_err(|error| format!("the peer's catalogue is not JSON: {error}"))?;
    let items = value
        .as_array()
        .ok_or("the peer's catalogue is not a list")?;
    let item = |item: &Value| {
        Some(Item {
            handle: item["handle"].as_str()?.to_owned(),
            length: item["length"].as_u64(),
            media_type: item["type"].as_str().map(str::to_owned),
        })
    };
    items
        .iter()
        .map(|value| item(value).ok_or("an item without a handle".into()))
        .collect()
}
