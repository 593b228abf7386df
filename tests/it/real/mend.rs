//! The example where the network or its other end fails in the middle.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::gate::Gate;
use super::harness::{Scratch, Share, assert_same, finish, noise, peer, run};
use super::media::FLAC;

/// Bytes of the shared file, and of answers that pass before the gate closes.
const LEN: usize = 20_000_003;
const FIRST: u64 = 7_000_000;

/// A large file shared behind a gate, and a client of it that stands before the gate.
struct Setting {
    scratch: Scratch,
    share: Share,
    gate: Gate,
    content: Vec<u8>,
}

impl Setting {
    fn new() -> Option<Self> {
        let scratch = Scratch::new();
        let content = noise(5, LEN);
        scratch.write("large.bin", &content);
        let share = Self::share(&scratch, "0")?;
        let gate = Gate::before(&share.address, FIRST);
        Some(Self {
            scratch,
            share,
            gate,
            content,
        })
    }

    fn share(scratch: &Scratch, port: &str) -> Option<Share> {
        let token = scratch.join("token");
        let options = ["--bind", "127.0.0.1", "--port", port, "--token-file"];
        let options = options
            .map(str::to_owned)
            .into_iter()
            .chain([token.display().to_string()]);
        Share::with(options, [scratch.join("large.bin")])
    }

    /// Kills the share, and starts it again on the same port, whatever it then shares.
    fn restart(&mut self) {
        let port = self.share.address.rsplit(':').next().unwrap().to_owned();
        self.share.kill();
        self.share = Self::share(&self.scratch, &port).unwrap();
    }

    fn get(&self) -> Command {
        let mut get = peer(["get", &self.gate.address, &self.share.token, "large.bin"]).unwrap();
        get.args(["-o", "copy"]).current_dir(self.scratch.path());
        get
    }

    /// Starts `get`, and returns when it has all that comes through the gate.
    fn get_until_held(&self) -> Child {
        let child = self.get().stderr(Stdio::piped()).spawn().unwrap();
        self.gate.wait_until_held();
        child
    }

    /// Asserts that the download is whole and has left nothing else behind, apart from a lock.
    fn assert_copied(&self) {
        assert_same(&fs::read(self.scratch.join("copy")).unwrap(), &self.content);
        let mut names: Vec<_> = fs::read_dir(self.scratch.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.ends_with(".lock"))
            .collect();
        names.sort_unstable();
        assert_eq!(names, ["copy", "large.bin", "token"]);
    }
}

#[test]
fn get_survives_a_restart_of_the_server() {
    let Some(mut setting) = Setting::new() else {
        return;
    };
    let get = setting.get_until_held();
    setting.restart();
    setting.gate.open(None);
    let ran = finish(get);
    assert!(ran.status.success(), "{}", ran.stderr);
    setting.assert_copied();
    // It went on, and did not begin anew.
    let passed = setting.gate.passed();
    assert!(
        passed < LEN as u64 + FIRST,
        "{passed} bytes for a file of {LEN}"
    );
}

#[test]
fn get_goes_on_after_it_was_killed() {
    let Some(setting) = Setting::new() else {
        return;
    };
    let mut get = setting.get_until_held();
    // A slow link: what came is made safe about once a second, so it takes some.
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(3) {
        setting.gate.open(Some(50_000));
        setting.gate.wait_until_held();
        thread::sleep(Duration::from_millis(20));
    }
    get.kill().unwrap();
    get.wait().unwrap();
    assert!(
        !setting.scratch.join("copy").exists(),
        "only what is whole gets the name"
    );

    let before = setting.gate.passed();
    setting.gate.open(None);
    let ran = run(&mut setting.get());
    assert!(ran.status.success(), "{}", ran.stderr);
    setting.assert_copied();
    assert!(
        ran.stderr.contains("bytes were there already"),
        "{}",
        ran.stderr
    );
    let after = setting.gate.passed() - before;
    assert!(after < LEN as u64, "{after} bytes for the rest of {LEN}");
}

#[test]
fn two_gets_of_one_file_do_not_meet() {
    let Some(setting) = Setting::new() else {
        return;
    };
    let first = setting.get_until_held();
    let second = run(&mut setting.get());
    assert_eq!(second.status.code(), Some(1), "{}", second.stderr);
    assert!(
        second.stderr.contains("another download"),
        "{}",
        second.stderr
    );
    setting.gate.open(None);
    let first = finish(first);
    assert!(first.status.success(), "{}", first.stderr);
    setting.assert_copied();
}

#[test]
fn get_takes_the_new_version_whole() {
    let Some(mut setting) = Setting::new() else {
        return;
    };
    let get = setting.get_until_held();
    setting.content = noise(6, LEN - 1);
    setting.scratch.write("large.bin", &setting.content);
    setting.restart();
    setting.gate.open(None);
    let ran = finish(get);
    assert!(ran.status.success(), "{}", ran.stderr);
    setting.assert_copied();
}

#[test]
fn play_ends_in_an_error_where_the_track_does_not() {
    let Some(file) = FLAC.file() else { return };
    let scratch = Scratch::new();
    scratch.write("large.bin", &fs::read(file).unwrap());
    let Some(share) = Setting::share(&scratch, "0") else {
        return;
    };
    let gate = Gate::before(&share.address, 1_000_000);
    let mut play = peer(["play", &gate.address, &share.token, "large.bin"]).unwrap();
    let play = play
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    gate.wait_until_held();
    // Whoever answers on that port from now on has another token.
    let port = share.address.rsplit(':').next().unwrap().to_owned();
    fs::remove_file(scratch.join("token")).unwrap();
    drop(share);
    let _other = Setting::share(&scratch, &port).unwrap();
    gate.open(None);
    let ran = finish(play);
    assert_eq!(ran.status.code(), Some(1), "{}", ran.stderr);
}

#[test]
fn a_range_of_two_versions_is_an_error() {
    let Some(mut setting) = Setting::new() else {
        return;
    };
    let mut get = setting.get();
    let get = get
        .args(["--range", "1-"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    setting.gate.wait_until_held();
    setting.scratch.write("large.bin", &noise(6, LEN));
    setting.restart();
    setting.gate.open(None);
    let ran = finish(get);
    assert_eq!(ran.status.code(), Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains("changed"), "{}", ran.stderr);
    assert!(!setting.scratch.join("copy").exists());
}
