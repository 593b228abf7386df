//! mpv: the samples it plays are those of the file.

use std::fs;
use std::process::Command;

use super::harness::{Scratch, Share, assert_same, program, succeed};
use super::media::{FLAC, MP3, MP4};

#[test]
fn plays_from_the_middle() {
    if program("mpv").is_none() {
        return;
    }
    for medium in [MP3, FLAC, MP4] {
        let Some(file) = medium.file() else { return };
        let Some(share) = Share::of([&file]) else {
            return;
        };
        let scratch = Scratch::new();
        let play = |input: &str, to: &str| {
            let samples = scratch.join(to);
            let mut mpv = Command::new("mpv");
            mpv.args(["--no-config", "--really-quiet", "--vo=null", "--ao=pcm"]);
            mpv.args(["--hr-seek=yes", "--start=31.5", "--length=2"]);
            mpv.arg(format!("--http-header-fields={}", share.authorization()));
            mpv.arg(format!("--ao-pcm-file={}", samples.display()))
                .arg(input);
            succeed(&mut mpv);
            fs::read(samples).unwrap()
        };
        let local = play(file.to_str().unwrap(), "local");
        assert!(local.len() > 100_000, "{} bytes of samples", local.len());
        assert_same(&play(&share.url(medium.name), "remote"), &local);
    }
}
