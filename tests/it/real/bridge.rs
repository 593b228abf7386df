//! Players that are given a URL of a bridge and nothing else, while the peer behind it goes away and
//! comes back: ffmpeg, mpv, GStreamer and VLC, each with every kind of media.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use cranpose_services::peer::{
    BridgeUrl, ByteSource, FileSource, PeerBridge, PeerClient, PeerServer, SourceResolver,
};

use super::harness::{Scratch, assert_same, program, run, skip, succeed};
use super::media::{FLAC, MP3, MP4, Medium, WAV, WEBM};
use crate::fetch_script::alone;

/// Everything that must play.
const MEDIA: [&Medium; 5] = [&MP3, &FLAC, &WAV, &MP4, &WEBM];

/// Where to seek, in milliseconds: to and fro, twice to the same place, and close to both ends.
pub(super) const SEEKS: [u32; 20] = [
    30_000, 10_000, 50_000, 5_000, 45_000, 20_000, 0, 55_000, 1_000, 40_000, 40_000, 59_000,
    15_000, 35_000, 25_500, 12_300, 58_000, 100, 33_333, 48_000,
];

/// Content after which the peer is killed, and how often.
const KILL_AFTER: u64 = 150_000;
const KILLS: usize = 3;

/// Whatever a player is waited for comes sooner than this, or never.
const WAIT_MAX: Duration = Duration::from_secs(120);

/// A peer that goes away three times while it is fetched from, and comes back; and a bridge to it.
pub(super) struct Bridged {
    pub(super) bridge: PeerBridge,
    pub(super) url: BridgeUrl,
    stop: Arc<AtomicBool>,
    peer: Option<JoinHandle<usize>>,
}

impl Bridged {
    pub(super) fn new(file: &Path, test: u8) -> Self {
        let source: Arc<dyn ByteSource> = Arc::new(FileSource::open(file).unwrap());
        let resolver: SourceResolver = Arc::new(move |_| Some(Arc::clone(&source)));
        let start = move |address: SocketAddr| {
            PeerServer::start(address, "secret", Arc::clone(&resolver)).unwrap()
        };
        let server = start((alone(test), 0).into());
        let address = server.local_addr();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let peer = thread::spawn(move || {
            let mut server = server;
            let mut kills = 0;
            while !stopped.load(Ordering::SeqCst) {
                if kills < KILLS && server.stats().content_bytes > KILL_AFTER {
                    server.shutdown(Duration::ZERO);
                    kills += 1;
                    // Away for long enough to be missed.
                    thread::sleep(Duration::from_millis(50));
                    server = start(address);
                }
                thread::sleep(Duration::from_millis(2));
            }
            kills
        });
        let client = PeerClient::builder(address.to_string(), "secret");
        let bridge = PeerBridge::start().unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        let url = bridge.url(&client.build().unwrap(), "a", name).unwrap();
        Self {
            bridge,
            url,
            stop,
            peer: Some(peer),
        }
    }

    /// Ends it, and asserts that the player met what it was to meet.
    pub(super) fn end(mut self, what: &str) {
        self.stop.store(true, Ordering::SeqCst);
        let kills = self.peer.take().map(|peer| peer.join().unwrap());
        assert!(kills >= Some(1), "{what}: the peer was never killed");
        let stats = self.bridge.stats();
        assert!(stats.server.transfers > 0, "{what}: {stats:?}");
        assert_eq!(stats.server.source_failed, 0, "{what}: {stats:?}");
    }
}

impl Drop for Bridged {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

/// Runs a test with each medium from a bridge.
fn each_medium(test: u8, play: impl Fn(&str, &Path, &Bridged) + Sync) {
    thread::scope(|scope| {
        let play = &play;
        let two = [&MEDIA[..3], &MEDIA[3..]];
        let running = two.map(|media| {
            scope.spawn(move || {
                for medium in media {
                    let Some(file) = medium.file() else { return };
                    let bridged = Bridged::new(&file, test);
                    play(medium.name, &file, &bridged);
                    bridged.end(medium.name);
                }
            })
        });
        for thread in running {
            thread.join().unwrap();
        }
    });
}

#[test]
fn ffmpeg_and_ffprobe() {
    if program("ffprobe").is_none() {
        return;
    }
    each_medium(31, |name, file, bridged| {
        let (local, url) = (file.to_str().unwrap(), bridged.url.as_str());
        let decode = |input: &str, seek: &[&str]| {
            let mut ffmpeg = Command::new("ffmpeg");
            ffmpeg.args(["-v", "error", "-nostdin"]).args(seek);
            let ran = succeed(ffmpeg.args(["-i", input, "-map", "0", "-f", "framemd5", "-"]));
            assert_eq!(ran.stderr, "", "{name} {seek:?}");
            ran.stdout
        };
        let probe = |input: &str| {
            let mut ffprobe = Command::new("ffprobe");
            ffprobe.args(["-v", "error", "-show_streams", "-of", "flat", input]);
            succeed(&mut ffprobe).stdout
        };
        assert!(probe(url) == probe(local), "{name}: streams");
        for seek in SEEKS {
            let place = format!("{}ms", seek);
            let seek = ["-ss", &place, "-t", "0.2"];
            assert!(
                decode(url, &seek) == decode(local, &seek),
                "{name}: {place}"
            );
        }
        assert!(decode(url, &[]) == decode(local, &[]), "{name}: the whole");
    });
}

#[test]
fn mpv() {
    if program("mpv").is_none() {
        return;
    }
    each_medium(32, |name, file, bridged| {
        let scratch = Scratch::new();
        // One run that seeks twenty times: each part begins at another place of the same input.
        let play = |input: &str, to: &str| {
            let part = |seek: &u32| {
                let start = f64::from(*seek) / 1000.0;
                format!("%{}%{input},start={start},length=0.25", input.len())
            };
            let parts: Vec<_> = SEEKS.iter().chain(&[59_000]).map(part).collect();
            let samples = scratch.join(to);
            let mut mpv = Command::new("mpv");
            mpv.args(["--no-config", "--really-quiet", "--vo=null", "--ao=pcm"]);
            mpv.arg(format!("--ao-pcm-file={}", samples.display()));
            succeed(mpv.arg(format!("edl://{}", parts.join(";"))));
            fs::read(samples).unwrap()
        };
        let local = play(file.to_str().unwrap(), "local");
        assert!(local.len() > 500_000, "{name}: {} bytes", local.len());
        assert_same(&play(bridged.url.as_str(), "bridged"), &local);
    });
}

#[test]
fn gstreamer() {
    // The package of the bindings is for the system's own Python.
    let python = ["/usr/bin/python3", "python3"].into_iter().find(|python| {
        let imports = "import gi; gi.require_version('Gst', '1.0'); from gi.repository import Gst";
        let mut python = Command::new(python);
        let python = python.args(["-c", imports]).stderr(Stdio::null());
        python.status().is_ok_and(|status| status.success())
    });
    let Some(python) = python else {
        return skip("GStreamer's bindings for Python are not installed");
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/it/real/bridge/playbin.py");
    each_medium(33, |name, _, bridged| {
        let mut player = Command::new(python);
        player.arg(script).arg(bridged.url.as_str());
        player.args(SEEKS.map(|seek| seek.to_string()));
        let ran = run(&mut player);
        assert!(ran.status.success(), "{name}: {}", ran.stderr);
        let lines: Vec<_> = ran.text().lines().collect();
        assert_eq!(lines.last(), Some(&"end"), "{name}");
        let at: Vec<u32> = lines
            .iter()
            .filter_map(|line| line.strip_prefix("at ")?.parse().ok())
            .collect();
        assert_eq!(at.len(), SEEKS.len(), "{name}: {lines:?}");
        for (at, sought) in at.iter().zip(SEEKS) {
            assert!(at.abs_diff(sought) <= 100, "{name}: at {at}, not {sought}");
        }
        let duration = lines[0].strip_prefix("duration ").unwrap();
        let duration: u32 = duration.parse().unwrap();
        assert!(duration.abs_diff(60_000) <= 200, "{name}: {duration}");
    });
}

/// VLC, told what to do by lines.
struct Vlc {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Drop for Vlc {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Vlc {
    fn play(url: &str, home: &Path) -> Self {
        // It refuses to run as root.
        let is_root = succeed(Command::new("id").arg("-u")).text().trim() == "0";
        let mut vlc = if is_root {
            let mut vlc = Command::new("setpriv");
            vlc.args(["--reuid=65534", "--regid=65534", "--clear-groups", "cvlc"]);
            vlc
        } else {
            Command::new("cvlc")
        };
        vlc.env("HOME", home).env("XDG_RUNTIME_DIR", home);
        vlc.args([
            "--no-lua",
            "--intf=oldrc",
            "--rc-fake-tty",
            "--no-media-library",
        ]);
        vlc.args([
            "--aout=dummy",
            "--vout=dummy",
            "--no-video-title-show",
            "--play-and-stop",
        ]);
        let mut child = vlc
            .arg(url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            stdin: child.stdin.take().unwrap(),
            stdout: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").unwrap();
    }

    /// Asks for a number: what it says beside numbers is for people.
    fn number(&mut self, question: &str) -> u32 {
        self.say(question);
        loop {
            let mut line = String::new();
            let n = self.stdout.read_line(&mut line).unwrap();
            assert!(n > 0, "it has ended");
            let text = line.trim().trim_start_matches("> ").trim();
            if let Ok(number) = text.parse() {
                return number;
            }
        }
    }

    /// Asks until the answer is right.
    fn wait(&mut self, question: &str, is_right: impl Fn(u32) -> bool) -> Result<u32, u32> {
        let started = Instant::now();
        loop {
            let number = self.number(question);
            if is_right(number) {
                return Ok(number);
            }
            if started.elapsed() > WAIT_MAX {
                return Err(number);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn vlc() {
    if program("cvlc").is_none() {
        return;
    }
    each_medium(34, |name, _, bridged| {
        let home = Scratch::new();
        let mut vlc = Vlc::play(bridged.url.as_str(), home.path());
        vlc.wait("is_playing", |playing| playing == 1).unwrap();
        vlc.wait("get_length", |length| length.abs_diff(60) <= 1)
            .unwrap();
        for seek in SEEKS {
            let second = (seek / 1000).min(56);
            vlc.say(&format!("seek {second}"));
            // It plays on meanwhile.
            let near = second.saturating_sub(2)..=second + 4;
            let at = vlc.wait("get_time", |at| near.contains(&at));
            assert!(at.is_ok(), "{name}: at {at:?}, not {second}");
        }
        vlc.say("seek 58");
        vlc.wait("is_playing", |playing| playing == 0).unwrap();
        vlc.say("quit");
    });
}
