//! Real media, made by ffmpeg and kept in the temporary folder for the next run.

use std::fs;
use std::path::PathBuf;

use super::harness::{program, succeed};

/// Raised when what `make` makes changes, so that no older file is taken for it.
const REVISION: u32 = 1;

/// Two channels: a rising tone tells where one is, noise keeps it from shrinking.
const AUDIO: &str = "aevalsrc=exprs='0.3*sin(2*PI*(200+10*t)*t)|0.2*sin(2*PI*330*t)+0.1*random(0)\
                     ':s=44100:d=";
const VIDEO: &str = "testsrc2=s=320x240:r=25:d=60";

/// One file of media and how ffmpeg is told to make it.
pub(super) struct Medium {
    pub(super) name: &'static str,
    codec: &'static [&'static str],
    video: bool,
    pub(super) seconds: u32,
}

/// More than a reader keeps, so that what it does about that shows: from 10 to 20 MB each.
pub(super) const LARGE: [Medium; 5] = [
    MP3.longer("large.mp3", &["-c:a", "libmp3lame", "-b:a", "320k"], 300),
    FLAC.longer("large.flac", &["-c:a", "flac"], 100),
    OGG.longer("large.ogg", &["-c:a", "libvorbis", "-q:a", "9"], 300),
    WAV.longer("large.wav", &["-c:a", "pcm_s16le"], 100),
    M4A.longer("large.m4a", &["-c:a", "aac", "-b:a", "320k"], 300),
];

pub(super) const MP3: Medium = Medium {
    name: "tone.mp3",
    codec: &["-c:a", "libmp3lame", "-b:a", "192k"],
    video: false,
    seconds: 60,
};
pub(super) const MP3_VARIABLE: Medium = Medium {
    name: "variable.mp3",
    codec: &["-c:a", "libmp3lame", "-q:a", "2"],
    video: false,
    seconds: 60,
};
pub(super) const FLAC: Medium = Medium {
    name: "tone.flac",
    codec: &["-c:a", "flac"],
    video: false,
    seconds: 60,
};
pub(super) const OGG: Medium = Medium {
    name: "tone.ogg",
    codec: &["-c:a", "libvorbis", "-q:a", "5"],
    video: false,
    seconds: 60,
};
pub(super) const WAV: Medium = Medium {
    name: "tone.wav",
    codec: &["-c:a", "pcm_s16le"],
    video: false,
    seconds: 60,
};
/// Like `MP4`, sound alone.
pub(super) const M4A: Medium = Medium {
    name: "tone.m4a",
    codec: &["-c:a", "aac", "-b:a", "160k"],
    video: false,
    seconds: 60,
};
/// Written without `faststart`, so the moov atom comes last.
pub(super) const MP4: Medium = Medium {
    name: "film.mp4",
    codec: &[
        "-c:v", "mpeg4", "-q:v", "5", "-g", "50", "-c:a", "aac", "-b:a", "128k",
    ],
    video: true,
    seconds: 60,
};
/// The same with video that browsers take.
pub(super) const MP4_H264: Medium = Medium {
    name: "film-h264.mp4",
    codec: &[
        "-c:v", "libx264", "-preset", "veryfast", "-g", "50", "-pix_fmt", "yuv420p", "-c:a", "aac",
        "-b:a", "128k",
    ],
    video: true,
    seconds: 60,
};
pub(super) const WEBM: Medium = Medium {
    name: "film.webm",
    codec: &[
        "-c:v",
        "libvpx",
        "-deadline",
        "realtime",
        "-cpu-used",
        "8",
        "-b:v",
        "400k",
        "-g",
        "50",
        "-c:a",
        "libvorbis",
        "-q:a",
        "5",
    ],
    video: true,
    seconds: 60,
};

impl Medium {
    const fn longer(
        self,
        name: &'static str,
        codec: &'static [&'static str],
        seconds: u32,
    ) -> Self {
        Self {
            name,
            codec,
            seconds,
            ..self
        }
    }

    /// The file, made now or earlier; `None`, loudly, where there is no ffmpeg.
    pub(super) fn file(&self) -> Option<PathBuf> {
        let mut ffmpeg = program("ffmpeg")?;
        let folder = std::env::temp_dir().join(format!("peer-tests-media-{REVISION}"));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join(self.name);
        if !file.exists() {
            // Made under another name, and only a whole file gets its own: tests that run at the
            // same time at worst make it twice.
            let thread = std::thread::current().id();
            let unique = format!(".{}-{thread:?}-{}", std::process::id(), self.name);
            let unfinished = folder.join(unique);
            ffmpeg.args(["-v", "error", "-y"]);
            if self.video {
                ffmpeg.args(["-f", "lavfi", "-i", VIDEO]);
            }
            ffmpeg
                .args(["-f", "lavfi", "-i", &format!("{AUDIO}{}", self.seconds)])
                .args(["-fflags", "+bitexact"])
                .args(self.codec);
            succeed(ffmpeg.arg(&unfinished));
            fs::rename(&unfinished, &file).unwrap();
        }
        Some(file)
    }
}
