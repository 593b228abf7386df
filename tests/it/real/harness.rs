//! The example as a process, other programs as processes, and folders to work in.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::capability::{own_program, tell};

/// A program that takes longer hangs.
const PROGRAM_TIME_MAX: Duration = Duration::from_secs(180);

/// The example `peer`, up to date, built like this test; `None` if it cannot be built here.
fn built_example() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    BUILT.get_or_init(build_example).as_deref()
}

/// The test sits in `TARGET_DIR[/TRIPLE]/PROFILE/deps`, the example belongs beside `deps`.
fn build_example() -> Option<PathBuf> {
    let test = std::env::current_exe().unwrap();
    let profile_dir = test.parent()?.parent()?;
    let profile = match profile_dir.file_name()?.to_str()? {
        "debug" => "dev",
        named => named,
    };
    let example = profile_dir
        .join("examples")
        .join(format!("peer{}", std::env::consts::EXE_SUFFIX));
    let outer = profile_dir.parent()?;
    if is_triple(outer.file_name()?.to_str()?) {
        // Built for another machine than cargo's own, with options that are not known here. What
        // `cargo test --target` built beside this test is the example to run.
        return Some(example).filter(|example| runs(example));
    }
    let status = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "-p",
            "cranpose-services",
            "--example",
            "peer",
        ])
        .args(["--profile", profile, "--target-dir"])
        .arg(outer)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    match status {
        Ok(status) => assert!(status.success(), "cargo cannot build the example"),
        Err(error) => eprintln!("cargo cannot be run: {error}"),
    }
    Some(example).filter(|example| runs(example))
}

/// Whether a program can be started from here.
fn runs(program: &Path) -> bool {
    own_program(program)
        .arg("--help")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Whether a folder of the target directory is named for a target, such as `armv7-linux-…`.
fn is_triple(name: &str) -> bool {
    let arch = match std::env::consts::ARCH {
        "x86" => "i",
        arch => arch,
    };
    name.starts_with(arch) && name.matches('-').count() >= 2
}

/// The example with its first argument, or `None`, loudly, where it cannot be had.
pub(super) fn peer<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Option<Command> {
    let Some(example) = built_example() else {
        skip("the example cannot be built for this target, or not be run from here");
        return None;
    };
    let mut command = own_program(example);
    command.args(arguments);
    Some(command)
}

/// A program by its name, or `None`, loudly, where it is not installed.
pub(super) fn program(name: &str) -> Option<Command> {
    // To ffmpeg and its kin this is a mistake, which shows as well that they are there.
    match Command::new(name)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
    {
        Ok(_) => Some(Command::new(name)),
        Err(error) => {
            skip(&format!("{name} cannot be run: {error}"));
            None
        }
    }
}

/// Says loudly that something is left out, or fails where nothing may be.
pub(super) fn skip(why: &str) {
    assert!(
        std::env::var_os("PEER_TESTS_REQUIRE_PROGRAMS").is_none(),
        "required: {why}"
    );
    tell(&format!("SKIPPED: {why}"));
}

/// `peer share` at work; it stops when the value is dropped.
pub(super) struct Share {
    child: Child,
    // Open as long as the process may write to it.
    _stdout: BufReader<ChildStdout>,
    pub(super) address: String,
    pub(super) token: String,
}

impl Share {
    /// Shares these paths on loopback; `None`, loudly, where the example cannot be built.
    pub(super) fn of<P: AsRef<OsStr>>(paths: impl IntoIterator<Item = P>) -> Option<Self> {
        Self::with(["--bind", "127.0.0.1"], paths)
    }

    pub(super) fn with<S: AsRef<OsStr>, P: AsRef<OsStr>>(
        options: impl IntoIterator<Item = S>,
        paths: impl IntoIterator<Item = P>,
    ) -> Option<Self> {
        Some(Self::run(peer(["share"])?.args(options), paths))
    }

    /// Runs a command that shares what it gets as its last arguments.
    pub(super) fn run<P: AsRef<OsStr>>(
        command: &mut Command,
        paths: impl IntoIterator<Item = P>,
    ) -> Self {
        command
            .arg("--until-eof")
            .args(paths)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut word = |name: &str| {
            let mut line = String::new();
            stdout.read_line(&mut line).unwrap();
            let value = line
                .strip_prefix(name)
                .unwrap_or_else(|| panic!("{line:?} is no {name}"));
            value.trim().to_owned()
        };
        let (address, token) = (word("address "), word("token "));
        Self {
            child,
            _stdout: stdout,
            address,
            token,
        }
    }

    pub(super) fn url(&self, handle: &str) -> String {
        format!("http://{}/track/{}", self.address, percent_encode(handle))
    }

    /// The field line that lets a request in.
    pub(super) fn authorization(&self) -> String {
        format!("Authorization: Bearer {}", self.token)
    }

    /// Number of the process.
    #[cfg(target_os = "linux")]
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it at once, as a crash or a battery would.
    pub(super) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends standard input and gives the exit status.
    pub(super) fn stop(mut self) -> ExitStatus {
        drop(self.child.stdin.take());
        wait(&mut self.child, "peer share")
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        // After a failed test nobody asks how it ended; after `stop` it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn percent_encode(handle: &str) -> String {
    let mut encoded = String::new();
    for byte in handle.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded += &format!("%{byte:02X}"),
        }
    }
    encoded
}

/// What a program wrote and how it ended.
pub(super) struct Ran {
    pub(super) status: ExitStatus,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: String,
}

impl Ran {
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }
}

/// Runs a program to its end, however that is.
pub(super) fn run(command: &mut Command) -> Ran {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    finish(command.spawn().unwrap())
}

/// Waits for the end of a program, and takes what it writes where that comes to us.
pub(super) fn finish(mut child: Child) -> Ran {
    let stdout = child.stdout.take().map(drain);
    let stderr = child.stderr.take().map(drain);
    let status = wait(&mut child, "the program");
    let all = |pipe: Option<thread::JoinHandle<Vec<u8>>>| {
        pipe.map(|pipe| pipe.join().unwrap()).unwrap_or_default()
    };
    Ran {
        status,
        stdout: all(stdout),
        stderr: String::from_utf8_lossy(&all(stderr)).into_owned(),
    }
}

/// Runs a program that must succeed.
pub(super) fn succeed(command: &mut Command) -> Ran {
    let ran = run(command);
    assert!(
        ran.status.success(),
        "{command:?}: {}\n{}",
        ran.status,
        ran.stderr
    );
    ran
}

fn drain(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

fn wait(child: &mut Child, name: &str) -> ExitStatus {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if started.elapsed() > PROGRAM_TIME_MAX {
            let _ = child.kill();
            panic!("{name} hangs");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// A folder of one test's own, removed in the end.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("peer-tests-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // What an earlier process of the same number left behind.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file, and the folders on its way.
    pub(super) fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Bytes in which no stretch repeats another, always the same for one seed (xorshift64).
pub(super) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Asserts that bytes are the same without printing megabytes.
#[track_caller]
pub(super) fn assert_same(got: &[u8], expected: &[u8]) {
    assert_eq!(got.len(), expected.len(), "length");
    let differs = got
        .iter()
        .zip(expected)
        .position(|(got, expected)| got != expected);
    assert_eq!(differs, None, "position of the first wrong byte");
}
