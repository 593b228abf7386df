//! Keeps two downloads from one `.part` file.
//!
//! A lock that a killed process leaves behind would keep its own successor out, so each platform
//! lends one that ends with the process. None of them needs more than std, nor `File::lock`, which
//! is younger than the compiler that this crate promises to build with. What they do not reach is
//! in `docs/PORTABILITY.md`.

use std::{
    io,
    path::{Path, PathBuf},
};

/// Holds a part, until dropped or until the process ends.
pub(crate) struct PartLock {
    _held: platform::Held,
}

impl PartLock {
    /// Fails with [`io::ErrorKind::ResourceBusy`] while another download holds the part.
    pub(crate) fn take(part: &Path) -> io::Result<Self> {
        // Two ways to one directory lead to one lock.
        let directory = part.parent().unwrap_or(Path::new("."));
        let mut path: PathBuf = directory.canonicalize()?;
        path.extend(part.file_name());
        match platform::Held::take(&path)? {
            Some(held) => Ok(Self { _held: held }),
            None => Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "another download to this target is under way",
            )),
        }
    }
}

/// A socket in the abstract namespace, named after the file.
#[cfg(any(target_os = "linux", target_os = "android"))]
mod platform {
    #[cfg(target_os = "android")]
    use std::os::android::net::SocketAddrExt;
    #[cfg(target_os = "linux")]
    use std::os::linux::net::SocketAddrExt;
    use std::{
        hash::{DefaultHasher, Hash, Hasher},
        io,
        os::unix::net::{SocketAddr, UnixListener},
        path::Path,
    };

    pub(super) struct Held {
        _socket: UnixListener,
    }

    impl Held {
        pub(super) fn take(path: &Path) -> io::Result<Option<Self>> {
            // Names are shorter than paths may be. Two hashes of 64 bits do not meet by accident.
            let hash = |salt: u8| {
                let mut hasher = DefaultHasher::new();
                (salt, path).hash(&mut hasher);
                hasher.finish()
            };
            let name = format!("peer-download-{:016x}{:016x}", hash(1), hash(2));
            let address = SocketAddr::from_abstract_name(name)?;
            match UnixListener::bind_addr(&address) {
                Ok(socket) => Ok(Some(Self { _socket: socket })),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(None),
                Err(error) => Err(error),
            }
        }
    }
}

/// A file beside the part that is open for nobody else.
#[cfg(any(
    windows,
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "openbsd",
    target_os = "netbsd"
))]
mod platform {
    use std::{
        fs::{File, OpenOptions},
        io,
        path::Path,
    };

    pub(super) struct Held {
        _file: File,
    }

    impl Held {
        pub(super) fn take(path: &Path) -> io::Result<Option<Self>> {
            let mut name = path.as_os_str().to_owned();
            name.push(".lock");
            let mut options = File::options();
            options.write(true).create(true).truncate(false);
            exclusively(&mut options);
            match options.open(name) {
                Ok(file) => Ok(Some(Self { _file: file })),
                Err(error) if is_held(&error) => Ok(None),
                Err(error) => Err(error),
            }
        }
    }

    #[cfg(windows)]
    fn exclusively(options: &mut OpenOptions) {
        use std::os::windows::fs::OpenOptionsExt;
        // FILE_FLAG_DELETE_ON_CLOSE: the system removes the file with the last handle.
        options.share_mode(0).custom_flags(0x0400_0000);
        // It requires DELETE among the rights asked for: GENERIC_WRITE and DELETE.
        options.access_mode(0x4000_0000 | 0x0001_0000);
    }

    #[cfg(windows)]
    fn is_held(error: &io::Error) -> bool {
        // ERROR_SHARING_VIOLATION
        error.raw_os_error() == Some(32)
    }

    #[cfg(not(windows))]
    fn exclusively(options: &mut OpenOptions) {
        use std::os::unix::fs::OpenOptionsExt;
        // O_EXLOCK and O_NONBLOCK: a lock like that of `flock`, taken along with the file. The
        // file stays behind, empty; the lock does not.
        options.custom_flags(0x20 | 0x04);
    }

    #[cfg(not(windows))]
    fn is_held(error: &io::Error) -> bool {
        error.kind() == io::ErrorKind::WouldBlock
    }
}

/// Elsewhere there is nothing that ends with the process: the caller has to take care.
#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    windows,
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "openbsd",
    target_os = "netbsd"
)))]
mod platform {
    use std::{io, path::Path};

    pub(super) struct Held;

    impl Held {
        #[allow(
            clippy::unnecessary_wraps,
            reason = "the signature of the other platforms"
        )]
        pub(super) fn take(_path: &Path) -> io::Result<Option<Self>> {
            Ok(Some(Self))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(
        not(any(
            target_os = "linux",
            target_os = "android",
            windows,
            target_vendor = "apple"
        )),
        ignore = "there is no lock here"
    )]
    fn one_at_a_time() {
        let directory = std::env::temp_dir();
        let name = format!("peer-lock-{}.part", std::process::id());
        let part = directory.join(&name);
        let held = PartLock::take(&part).unwrap();
        let again = PartLock::take(&directory.join(".").join(&name));
        assert_eq!(again.err().unwrap().kind(), io::ErrorKind::ResourceBusy);
        let other = directory.join("other").with_file_name(format!("{name}x"));
        assert!(PartLock::take(&other).is_ok());
        drop(held);
        assert!(PartLock::take(&part).is_ok());
        for name in [name.clone(), format!("{name}x")] {
            let _ = std::fs::remove_file(directory.join(format!("{name}.lock")));
        }
    }
}
