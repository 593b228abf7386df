//! What a system, an emulator or a container may lack: one list, found out by trying.
//!
//! A test names what it needs and is skipped, loudly and with that name, where it is not there. No
//! test asks which system it is on; that a system which has everything is seen to have it is a test
//! below. What merely is not installed is the business of `real::harness::program`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ffi::OsString;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use peer_tests::silent::Silent;

/// The words in front of a program of this target where the system cannot start one by itself: an
/// emulator and its options, split at spaces. Set by `cargo xtask targets test`.
const RUNNER: &str = "PEER_TESTS_RUNNER";

/// Something that a test cannot do without and a platform may not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Capability {
    /// A program of this target can start others of its kind, this one for instance.
    OwnPrograms,
    /// `/proc/self` tells of the threads, descriptors and memory of this very process.
    OwnNumbers,
    /// A shell can limit the descriptors of what it starts, and they count as here.
    DescriptorLimit,
    /// Every address of 127.0.0.0/8 is this machine.
    LoopbackNetwork,
    /// `[::1]` can be listened on.
    Ipv6,
    /// The sources stand where they stood when this was built; on a phone they do not.
    SourceTree,
    /// `/dev/full`: what is written to it finds no room.
    FullDevice,
    /// `ln -s` makes links, and they are seen to be links.
    SymbolicLinks,
    /// A listener whose queue is full is silent: whoever connects waits in vain.
    SilentListener,
    /// A connection that its peer reset ends with an error, never as if it had ended in order.
    ResetsShow,
    /// Network namespaces can be made, and links between them: root, and `ip`.
    NetworkNamespaces,
    /// A process can have mounts of its own: root, and `unshare`.
    OwnMounts,
    /// The machine runs this code itself: its memory, its signals and its loader are the system's.
    NotEmulated,
}

const ALL: &[Capability] = &[
    Capability::OwnPrograms,
    Capability::OwnNumbers,
    Capability::DescriptorLimit,
    Capability::LoopbackNetwork,
    Capability::Ipv6,
    Capability::SourceTree,
    Capability::FullDevice,
    Capability::SymbolicLinks,
    Capability::SilentListener,
    Capability::ResetsShow,
    Capability::NetworkNamespaces,
    Capability::OwnMounts,
    Capability::NotEmulated,
];

impl Capability {
    /// Why it is not here. Tried once for each.
    fn lacking(self) -> Option<&'static str> {
        static TRIED: [OnceLock<Option<String>>; ALL.len()] =
            [const { OnceLock::new() }; ALL.len()];
        TRIED[self as usize]
            .get_or_init(|| self.try_it().err())
            .as_deref()
    }

    fn try_it(self) -> Result<(), String> {
        let as_text = |error: io::Error| error.to_string();
        match self {
            Self::OwnPrograms => {
                let mut own = this_program();
                let output = own.arg("--list").output().map_err(as_text)?;
                if output.status.success() {
                    Ok(())
                } else {
                    Err(format!(
                        "this program, started by itself: {}",
                        output.status
                    ))
                }
            }
            Self::OwnNumbers => {
                let status = std::fs::read_to_string("/proc/self/status").map_err(as_text)?;
                let number = status.lines().find_map(|line| line.strip_prefix("Pid:"));
                match number.map(str::trim) {
                    Some(number) if number == std::process::id().to_string() => Ok(()),
                    other => Err(format!("/proc/self is of process {other:?}")),
                }
            }
            Self::DescriptorLimit => {
                let mut shell = Command::new("sh");
                shell.args(["-c", "ulimit -n 64 && ulimit -n"]);
                let output = shell.stdin(Stdio::null()).output().map_err(as_text)?;
                match String::from_utf8_lossy(&output.stdout).trim() {
                    "64" => Self::OwnPrograms.try_it(),
                    other => Err(format!("`ulimit -n` says {other:?}")),
                }
            }
            Self::LoopbackNetwork => TcpListener::bind((Ipv4Addr::new(127, 83, 7, 2), 0))
                .map(drop)
                .map_err(as_text),
            Self::Ipv6 => TcpListener::bind((Ipv6Addr::LOCALHOST, 0))
                .map(drop)
                .map_err(as_text),
            Self::SourceTree => {
                let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
                manifest.metadata().map(drop).map_err(as_text)
            }
            Self::FullDevice => {
                let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
                match full.and_then(|mut full| full.write(b"x")) {
                    Ok(_) => Err("it has room".to_owned()),
                    Err(error) if error.kind() == ErrorKind::StorageFull => Ok(()),
                    Err(error) => Err(error.to_string()),
                }
            }
            Self::SymbolicLinks => {
                let link = std::env::temp_dir().join(format!("peer-{}-link", std::process::id()));
                tried(Command::new("ln").args(["-sf", "nowhere"]).arg(&link))?;
                let is_link = std::fs::symlink_metadata(&link).map(|link| link.is_symlink());
                std::fs::remove_file(&link).map_err(as_text)?;
                let looks_like_a_file = || "it looks like a file".to_owned();
                is_link
                    .map_err(as_text)?
                    .then_some(())
                    .ok_or_else(looks_like_a_file)
            }
            Self::SilentListener => Silent::new().map(drop).map_err(as_text),
            Self::ResetsShow => resets_show().map_err(as_text),
            Self::NetworkNamespaces => {
                let name = format!("peer-{}-tried", std::process::id());
                tried(Command::new("ip").args(["netns", "add", &name]))?;
                let linked = tried(Command::new("ip").args([
                    "-n", &name, "link", "add", "wire0", "type", "veth", "peer", "name", "wire1",
                ]));
                tried(Command::new("ip").args(["netns", "del", &name]))?;
                linked
            }
            Self::OwnMounts => tried(
                Command::new("unshare").args(["--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]),
            ),
            // By what started it, or by the name that the system knows an emulator's process by.
            Self::NotEmulated => {
                let own = format!("/proc/{}/comm", std::process::id());
                let name = std::fs::read_to_string(own).unwrap_or_default();
                if std::env::var_os(RUNNER).is_some() || name.starts_with("qemu-") {
                    Err(format!("run by {}", name.trim()))
                } else {
                    Ok(())
                }
            }
        }
    }
}

/// Both ends of a connection over loopback.
fn connected() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let (far, _) = listener.accept()?;
    Ok((near, far))
}

/// Where it is not so, it is so by chance: several attempts.
fn resets_show() -> io::Result<()> {
    for _ in 0..32 {
        let (mut near, mut far) = connected()?;
        near.write_all(b"unread")?;
        far.peek(&mut [0])?;
        far.write_all(b"content")?;
        drop(far);
        if near.read_to_end(&mut Vec::new()).is_ok() {
            return Err(io::Error::other("it ended as if in order"));
        }
    }
    Ok(())
}

/// Runs a command that says whether something can be done.
fn tried(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {} {}", output.status, why.trim()))
}

impl Capability {
    /// Whether it is here, for what is of use without it as well.
    pub(crate) fn is_here(self) -> bool {
        self.lacking().is_none()
    }
}

/// Whether all that a test needs is here; says loudly what is not.
pub(crate) fn has(needed: &[Capability]) -> bool {
    for capability in needed {
        if let Some(why) = capability.lacking() {
            let name = std::thread::current().name().unwrap_or("?").to_owned();
            tell(&format!(
                "SKIPPED: {name}: no capability {capability:?}: {why}"
            ));
            return false;
        }
    }
    true
}

/// A program of this target, started as this one was.
pub(crate) fn own_program(program: &Path) -> Command {
    let runner = std::env::var(RUNNER).unwrap_or_default();
    let mut words = runner.split_whitespace().map(OsString::from);
    match words.next() {
        Some(emulator) => {
            let mut command = Command::new(emulator);
            command.args(words).arg(program);
            command
        }
        None => Command::new(program),
    }
}

/// This program once more.
pub(crate) fn this_program() -> Command {
    own_program(&std::env::current_exe().unwrap())
}

/// Writes a line past the capture of the test harness, which hides what a passing test prints.
pub(crate) fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Linux on a machine of its own has all but perhaps IPv6, and what takes root: a mistake in how
/// something is tried would otherwise skip, everywhere, what it stands for.
#[test]
fn linux_has_them() {
    let emulated = Capability::NotEmulated.lacking().is_some();
    for capability in ALL {
        if let Some(why) = capability.lacking() {
            tell(&format!("no capability {capability:?} here: {why}"));
            let varies = [
                Capability::Ipv6,
                Capability::NetworkNamespaces,
                Capability::OwnMounts,
            ];
            let may = emulated || !cfg!(target_os = "linux") || varies.contains(capability);
            assert!(may, "{capability:?}: {why}");
        }
    }
}
