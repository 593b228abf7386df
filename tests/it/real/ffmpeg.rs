//! ffprobe and ffmpeg: the same packets and samples from us as from the file itself.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::harness::{Share, program, succeed};
use super::media::{FLAC, MP3, MP3_VARIABLE, MP4, Medium, OGG, WAV};

/// Where to go in a file of sixty seconds: near both ends, on a second and between.
const SEEKS: [&str; 5] = ["0.5", "12", "37.4321", "55.02", "59.5"];

/// What to do with one medium, from the file or from us.
fn compare(medium: &Medium) {
    let Some(file) = medium.file() else { return };
    if program("ffprobe").is_none() {
        return;
    }
    let Some(share) = Share::of([&file]) else {
        return;
    };
    let url = share.url(medium.name);
    let token = format!("{}\r\n", share.authorization());

    let probe = |input: &str, headers: &[&str]| {
        let mut ffprobe = Command::new("ffprobe");
        ffprobe.args([
            "-v",
            "error",
            "-show_format",
            "-show_streams",
            "-of",
            "flat",
        ]);
        let ran = succeed(ffprobe.args(headers).args(["-i", input]));
        assert_eq!(ran.stderr, "");
        let lines = ran
            .text()
            .lines()
            .filter(|line| !line.starts_with("format.filename="));
        lines.collect::<Vec<_>>().join("\n")
    };
    let decode = |input: &str, headers: &[&str], seek: &[&str]| {
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg
            .args(["-v", "error", "-nostdin"])
            .args(headers)
            .args(seek);
        let ran = succeed(ffmpeg.args(["-i", input, "-map", "0", "-f", "framemd5", "-"]));
        assert_eq!(ran.stderr, "", "{input} {seek:?}");
        ran.text().to_owned()
    };
    let (local, headers) = (file.to_str().unwrap(), ["-headers", &token]);

    let probed = probe(local, &[]);
    assert!(probed.contains("format.size="), "{probed}");
    assert_eq!(probe(&url, &headers), probed);
    let decoded = decode(local, &[], &[]);
    assert!(decoded.lines().count() > 100, "{decoded}");
    assert!(
        decode(&url, &headers, &[]) == decoded,
        "{}: decoded whole",
        medium.name
    );
    for seek in SEEKS {
        let seek = ["-ss", seek, "-t", "0.4"];
        let decoded = decode(local, &[], &seek);
        assert!(
            decoded.lines().any(|line| line.starts_with("0,")),
            "{seek:?}: {decoded}"
        );
        assert!(
            decode(&url, &headers, &seek) == decoded,
            "{}: {seek:?}",
            medium.name
        );
    }
}

#[test]
fn plays_and_seeks_mp3() {
    compare(&MP3);
}

#[test]
fn plays_and_seeks_mp3_of_variable_rate() {
    compare(&MP3_VARIABLE);
}

#[test]
fn plays_and_seeks_flac() {
    compare(&FLAC);
}

#[test]
fn plays_and_seeks_ogg_vorbis() {
    compare(&OGG);
}

#[test]
fn plays_and_seeks_wav() {
    compare(&WAV);
}

#[test]
fn plays_and_seeks_mp4_with_moov_last() {
    let Some(file) = MP4.file() else { return };
    assert_eq!(boxes(&file).last().map(String::as_str), Some("moov"));
    compare(&MP4);
}

/// The types of the boxes at the top of an mp4 file (ISO/IEC 14496-12 §4.2), in order.
fn boxes(file: &Path) -> Vec<String> {
    let bytes = fs::read(file).unwrap();
    let mut types = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let size = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        assert!(size >= 8, "this test knows only boxes with a plain size");
        types.push(String::from_utf8_lossy(&bytes[at + 4..at + 8]).into_owned());
        at += size as usize;
    }
    types
}
