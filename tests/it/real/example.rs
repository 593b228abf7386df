//! The example itself: what it prints, how it ends, what it shares and what it does not.

use std::fs;
use std::path::Path;

use peer_tests::raw::RawPeer;

use crate::capability::{Capability, has};

use super::harness::{Scratch, Share, assert_same, noise, peer, program, run, succeed};
use super::media::{FLAC, M4A, MP3, OGG, WAV};

/// A share of one folder with names that need care.
struct Setting {
    scratch: Scratch,
    share: Share,
}

const NAMES: [&str; 5] = [
    "plain.mp3",
    "with space.flac",
    "Ünï/cødé — 音楽/🎵 100%.ogg",
    "a/b/c/deep.wav",
    "-dash?#&+.m4a",
];

impl Setting {
    fn new() -> Option<Self> {
        let scratch = Scratch::new();
        for name in NAMES {
            // Names that the system refuses are not shared by anyone there.
            if cfg!(windows) && name.contains('?') {
                continue;
            }
            scratch.write(&format!("shared/{name}"), &noise(name.len() as u64, 70_000));
        }
        scratch.write("shared/.hidden", b"hidden");
        scratch.write("shared/empty.txt", b"");
        scratch.write("outside", b"outside");
        #[cfg(unix)]
        for (to, link) in [
            ("../outside", "link"),
            ("..", "circle"),
            ("plain.mp3", "inner"),
        ] {
            std::os::unix::fs::symlink(to, scratch.join("shared").join(link)).unwrap();
        }
        let share = Share::of([scratch.join("shared")])?;
        Some(Self { scratch, share })
    }

    fn peer(&self, command: &str, rest: &[&str]) -> std::process::Command {
        let share = &self.share;
        let mut peer = peer([command, &share.address, &share.token]).unwrap();
        peer.args(rest).current_dir(self.scratch.path());
        peer
    }

    fn original(&self, handle: &str) -> Vec<u8> {
        fs::read(self.scratch.join("shared").join(handle)).unwrap()
    }

    fn handles(&self) -> Vec<&'static str> {
        let mut handles = NAMES.to_vec();
        handles.push("empty.txt");
        handles.retain(|handle| self.scratch.join("shared").join(handle).exists());
        handles.sort_unstable();
        handles
    }
}

#[test]
fn demonstrates_without_arguments() {
    let Some(mut peer) = peer::<&str>([]) else {
        return;
    };
    let ran = succeed(&mut peer);
    assert_eq!(ran.stderr, "");
    let steps = ["made", "shared", "listed", "fetched", "fetched", "refused"];
    let said: Vec<&str> = ran
        .text()
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert!(said.starts_with(&steps), "{}", ran.text());
}

#[test]
fn explains_itself_and_says_what_it_did_not_understand() {
    let Some(mut help) = peer(["--help"]) else {
        return;
    };
    assert!(succeed(&mut help).text().contains("peer share"));
    let wrong: [&[&str]; 9] = [
        &["play me a song"],
        &["share"],
        &["share", "--port"],
        &["share", "--port", "65536", "."],
        &["share", "--no-such-option", "."],
        &["list", "127.0.0.1:1"],
        &["list", "127.0.0.1:1", "token", "more"],
        &["get", "127.0.0.1:1", "token"],
        &["get", "--range", "9-3", "127.0.0.1:1", "token", "handle"],
    ];
    for arguments in wrong {
        let ran = run(&mut peer(arguments).unwrap());
        assert_eq!(ran.status.code(), Some(2), "{arguments:?}: {}", ran.stderr);
        assert_eq!(
            (ran.text(), ran.stderr.lines().count()),
            ("", 1),
            "{}",
            ran.stderr
        );
    }
    for arguments in [
        vec!["share", "no such file"],
        vec!["share", "--allow-origin", "*", "."],
        vec!["share", "--allow-origin", "https://player.example/", "."],
        vec!["open", "127.0.0.1:1", "token"],
        vec!["list", "127.0.0.1:1", "token"],
    ] {
        let ran = run(&mut peer(&arguments).unwrap());
        assert_eq!(ran.status.code(), Some(1), "{arguments:?}: {}", ran.stderr);
    }
}

#[test]
fn lists_what_it_shares_and_nothing_else() {
    let Some(setting) = Setting::new() else {
        return;
    };
    let ran = succeed(&mut setting.peer("list", &[]));
    // Length, type and handle, two spaces apart; only a handle holds single spaces.
    let mut listed = Vec::new();
    for line in ran.text().lines() {
        let (length, rest) = line.trim_start().split_once("  ").unwrap();
        let (media_type, handle) = rest.split_once("  ").unwrap();
        let handle = handle.trim_start();
        assert_eq!(
            length.parse::<usize>().unwrap(),
            setting.original(handle).len()
        );
        if handle.ends_with(".flac") {
            assert_eq!(media_type.trim(), "audio/flac");
        }
        listed.push(handle);
    }
    assert_eq!(listed, setting.handles());
    for handle in [
        "link",
        "inner",
        "circle/outside",
        ".hidden",
        "../outside",
        "shared",
        "",
    ] {
        let ran = run(&mut setting.peer("get", &["-o", "-", "--", handle]));
        assert_eq!(
            (ran.status.code(), ran.stdout.len()),
            (Some(1), 0),
            "{handle:?}"
        );
    }
}

#[test]
fn gets_every_file_under_its_own_name() {
    let Some(setting) = Setting::new() else {
        return;
    };
    for handle in setting.handles() {
        let name = Path::new(handle).file_name().unwrap().to_str().unwrap();
        if name.contains('?') {
            // Not a file name everywhere, so it must be given one.
            let ran = run(&mut setting.peer("get", &["--", handle]));
            assert_eq!(ran.status.code(), Some(2), "{}", ran.stderr);
            succeed(&mut setting.peer("get", &["-o", name, "--", handle]));
        } else {
            let ran = succeed(&mut setting.peer("get", &["--", handle]));
            assert_eq!(
                (ran.text(), ran.stderr.as_str()),
                ("", ""),
                "no bar without a terminal"
            );
            let ran = run(&mut setting.peer("get", &["--", handle]));
            assert_eq!(
                ran.status.code(),
                Some(1),
                "a file that is there is not overwritten"
            );
        }
        assert_same(
            &fs::read(setting.scratch.join(name)).unwrap(),
            &setting.original(handle),
        );
    }
}

#[test]
#[cfg_attr(
    not(target_os = "linux"),
    ignore = "`script` takes other options elsewhere"
)]
fn draws_a_bar_on_a_terminal() {
    // `script` gives a program a terminal; the options are those of util-linux.
    let Some(mut script) = program("script") else {
        return;
    };
    let Some(setting) = Setting::new() else {
        return;
    };
    let get = setting.peer("get", &["-o", "copy", "plain.mp3"]);
    let words = std::iter::once(get.get_program()).chain(get.get_args());
    let command: Vec<_> = words.map(|word| word.to_str().unwrap()).collect();
    script.args([
        "--quiet",
        "--return",
        "--command",
        &command.join(" "),
        "/dev/null",
    ]);
    let ran = succeed(script.current_dir(setting.scratch.path()));
    let full = format!("[{}] 100%", "#".repeat(30));
    let mut drawn = ran.text().split('\r');
    assert!(
        drawn.any(|drawn| drawn.starts_with(&full)),
        "{}",
        ran.text()
    );
    let copy = fs::read(setting.scratch.join("copy")).unwrap();
    assert_same(&copy, &setting.original("plain.mp3"));
}

#[test]
fn gets_ranges() {
    let Some(setting) = Setting::new() else {
        return;
    };
    let content = setting.original("plain.mp3");
    for (range, expected) in [
        ("0-0", 0..1),
        ("1000-1999", 1_000..2_000),
        ("69999-", 69_999..70_000),
        ("60000-99999999999999", 60_000..70_000),
        ("0-18446744073709551614", 0..70_000),
    ] {
        let get = ["--range", range, "-o", "-", "plain.mp3"];
        let ran = succeed(&mut setting.peer("get", &get));
        assert_same(&ran.stdout, &content[expected]);
    }
    let ran = run(&mut setting.peer("get", &["--range", "70000-", "-o", "kept", "plain.mp3"]));
    assert_eq!(ran.status.code(), Some(1));
    assert!(
        !setting.scratch.join("kept").exists(),
        "a failure leaves no file behind"
    );
}

/// What is no plain file is written to, and not replaced.
#[test]
fn writes_to_a_pipe_by_its_name() {
    if !has(&[Capability::OwnNumbers]) {
        return;
    }
    let Some(setting) = Setting::new() else {
        return;
    };
    let content = setting.original("plain.mp3");
    let pipe = "/proc/self/fd/1";
    let ran = succeed(&mut setting.peer("get", &["-o", pipe, "plain.mp3"]));
    assert_same(&ran.stdout, &content);
    let range = ["--range", "10-19", "-o", pipe, "plain.mp3"];
    let ran = succeed(&mut setting.peer("get", &range));
    assert_same(&ran.stdout, &content[10..20]);
}

#[test]
fn a_failure_leaves_an_older_file_as_it_was() {
    let Some(setting) = Setting::new() else {
        return;
    };
    let older = setting.scratch.write("older", b"older");
    for handle in ["nothing", "outside"] {
        let ran = run(&mut setting.peer("get", &["-o", "older", handle]));
        assert_eq!(ran.status.code(), Some(1));
        assert!(ran.stderr.contains(handle), "{}", ran.stderr);
        assert!(
            !ran.stderr.contains(&setting.share.token),
            "a token belongs in no message"
        );
        assert_eq!(fs::read(&older).unwrap(), b"older");
    }
    succeed(&mut setting.peer("get", &["-o", "older", "plain.mp3"]));
    assert_same(&fs::read(&older).unwrap(), &setting.original("plain.mp3"));
}

#[test]
fn plays_what_it_shares() {
    for (medium, format) in [
        (&MP3, "mp3 in mp3"),
        (&FLAC, "flac in flac"),
        (&OGG, "vorbis in ogg"),
        (&WAV, "pcm_s16le in wave"),
        (&M4A, "aac in isomp4"),
    ] {
        let Some(file) = medium.file() else { return };
        let Some(share) = Share::of([&file]) else {
            return;
        };
        let play = ["play", &share.address, &share.token, medium.name];
        let ran = succeed(&mut peer(play).unwrap());
        let said: Vec<_> = ran.text().lines().collect();
        assert_eq!(said[0], format!("format    {format}, 44100 Hz, 2 channels"));
        assert!(said[1].starts_with("duration  60.0"), "{}", ran.text());
        assert!(said.iter().filter(|line| line.starts_with("seek ")).count() == 4);
        assert!(
            said.last().unwrap().starts_with("played    60.0"),
            "{}",
            ran.text()
        );

        // The samples themselves, whole, in the form that `aplay -f cd` takes.
        let ran = succeed(peer(play).unwrap().args(["-o", "-"]));
        let frames = ran.stdout.len() / 4;
        assert!(
            (59 * 44_100..61 * 44_100).contains(&frames),
            "{frames} frames"
        );
    }
}

#[test]
fn files_that_change_and_vanish_are_shared_as_they_are() {
    let Some(setting) = Setting::new() else {
        return;
    };
    let get = |handle| run(&mut setting.peer("get", &["-o", "-", handle]));
    let changed = noise(99, 12_345);
    setting.scratch.write("shared/plain.mp3", &changed);
    assert_same(&get("plain.mp3").stdout, &changed);

    fs::remove_file(setting.scratch.join("shared/plain.mp3")).unwrap();
    assert_eq!(get("plain.mp3").status.code(), Some(1));
    #[cfg(unix)]
    {
        // A link in the place of a file, or of a folder on the way to it, leads nowhere.
        let link = |to: &str, from: &str| {
            std::os::unix::fs::symlink(to, setting.scratch.join(from)).unwrap();
        };
        link("../outside", "shared/plain.mp3");
        setting.scratch.write("elsewhere/b/c/deep.wav", b"outside");
        fs::remove_dir_all(setting.scratch.join("shared/a")).unwrap();
        link("../elsewhere", "shared/a");
        for handle in ["plain.mp3", "a/b/c/deep.wav"] {
            let ran = get(handle);
            assert_eq!(
                (ran.status.code(), ran.stdout.len()),
                (Some(1), 0),
                "{handle}"
            );
        }
    }
    let ran = succeed(&mut setting.peer("list", &[]));
    assert!(!ran.text().contains("plain.mp3"), "{}", ran.text());
    assert!(ran.text().contains("with space.flac"), "{}", ran.text());
}

#[test]
fn same_names_from_two_folders_stay_apart() {
    let scratch = Scratch::new();
    for (folder, content) in [("one", b"first"), ("two", b"other")] {
        scratch.write(&format!("{folder}/song.mp3"), content);
        scratch.write(&format!("{folder}/library"), content);
    }
    let Some(share) = Share::of([scratch.join("one"), scratch.join("two")]) else {
        return;
    };
    for (handle, expected) in [
        ("song.mp3", b"first"),
        ("song.mp3 (2)", b"other"),
        ("library (2)", b"first"),
        ("library (3)", b"other"),
    ] {
        let get = ["get", &share.address, &share.token, handle, "-o", "-"];
        assert_eq!(
            succeed(&mut peer(get).unwrap()).stdout,
            expected,
            "{handle}"
        );
    }
}

#[test]
fn stops_cleanly_and_takes_its_address_with_it() {
    let Some(setting) = Setting::new() else {
        return;
    };
    let list = ["list", &setting.share.address, &setting.share.token].map(str::to_owned);
    assert!(setting.share.stop().success());
    assert_eq!(run(&mut peer(&list).unwrap()).status.code(), Some(1));
}

#[test]
fn tells_an_address_that_others_can_use() {
    let scratch = Scratch::new();
    let file = scratch.write("song.mp3", b"song");
    let Some(share) = Share::with::<&str, _>([], [&file]) else {
        return;
    };
    let address: std::net::SocketAddr = share.address.parse().unwrap();
    assert!(
        !address.ip().is_unspecified(),
        "{address} is where to listen, not where to connect"
    );
    assert!(address.port() != 0);
    assert!(
        share.token.len() >= 22,
        "128 bits take 22 characters of 6 bits"
    );

    // Asked on loopback all the same: tests touch no other network.
    let list = [
        "list",
        &format!("127.0.0.1:{}", address.port()),
        &share.token,
    ];
    let ran = succeed(&mut peer(list).unwrap());
    assert!(ran.text().contains("song.mp3"), "{}", ran.text());
}

#[test]
fn a_token_is_fresh_or_kept() {
    let scratch = Scratch::new();
    let file = scratch.write("song.mp3", b"song");
    let Some(first) = Share::of([&file]) else {
        return;
    };
    assert_ne!(Share::of([&file]).unwrap().token, first.token);

    let kept = scratch.join("token");
    let options = [
        "--bind",
        "127.0.0.1",
        "--token-file",
        kept.to_str().unwrap(),
    ];
    let token = Share::with(options, [&file]).unwrap().token.clone();
    assert_eq!(fs::read_to_string(&kept).unwrap(), token);
    assert_eq!(Share::with(options, [&file]).unwrap().token, token);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(
            fs::metadata(&kept).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    // A token that everybody has is none.
    fs::write(&kept, "\n").unwrap();
    let share = ["share", "--token-file", "token", "song.mp3"];
    let ran = run(peer(share).unwrap().current_dir(scratch.path()));
    assert_eq!(ran.status.code(), Some(1), "{}", ran.text());
}

#[test]
fn lets_in_pages_of_the_origins_it_is_told_of() {
    let scratch = Scratch::new();
    let file = scratch.write("a.txt", b"content");
    let origins = ["https://player.example", "http://localhost:8080"];
    let mut options = vec!["--bind", "127.0.0.1"];
    for origin in origins {
        options.extend(["--allow-origin", origin]);
    }
    let Some(share) = Share::with(options, [file]) else {
        return;
    };
    let ask = |origin: &str| {
        let mut peer = RawPeer::connect(share.address.parse().unwrap()).unwrap();
        let line = format!("Origin: {origin}\r\n{}\r\n", share.authorization());
        let request = format!("GET /track/a.txt HTTP/1.1\r\nHost: a\r\n{line}\r\n");
        peer.send(request.as_bytes()).unwrap();
        peer.read_response(false).unwrap().unwrap()
    };
    for origin in origins {
        let answer = ask(origin);
        assert_eq!(answer.content, b"content");
        assert_eq!(answer.field("Access-Control-Allow-Origin"), Some(origin));
    }
    let answer = ask("https://other.example");
    assert_eq!(answer.content, b"content");
    assert_eq!(answer.field("Access-Control-Allow-Origin"), None);
}
