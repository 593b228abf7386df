//! `peer play`: decodes a shared track through a `PeerReader`, with symphonia.
//!
//! There is no sound card behind it: samples are counted, or written where they are wanted.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::mem;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use cranpose_services::peer::{PeerClient, PeerReader};
use symphonia::core::audio::Channels;
use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error as MediaError;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, SeekMode, SeekTo, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream, MediaSourceStreamOptions};
use symphonia::core::meta::MetadataOptions;
use symphonia::core::units::{Time, TimeBase};

use crate::Outcome;
use crate::arguments::{Argument, Arguments, texts, unknown};

/// Where to seek, in parts of the whole: on, on, nearly to the end, and back.
const SEEKS: [f64; 4] = [0.25, 0.5, 0.99, 0.75];
/// How many seconds of a track may be missing at its end: codecs pad, and estimates differ.
const MISSING_SECONDS_MAX: f64 = 1.0;

pub(crate) fn run(mut arguments: Arguments) -> Outcome {
    let mut words = Vec::new();
    let mut output = None;
    while let Some(argument) = arguments.next() {
        match argument {
            Argument::Positional(word) => words.push(word),
            Argument::Option(option) if option == "-o" => {
                output = Some(PathBuf::from(arguments.value(&option)?));
            }
            Argument::Option(option) => return Err(unknown(&option)),
        }
    }
    let [base, token, handle] = texts(words, ["BASE", "TOKEN", "HANDLE"])?;
    let client = PeerClient::builder(base, token).build()?;
    let about = |error| format!("cannot play {handle:?}: {error}");
    let reader = client.reader(&handle).map_err(about)?;
    match output {
        None => play(reader, &handle, &mut io::sink(), &mut io::stdout()),
        Some(file) if file.as_os_str() == "-" => {
            play(reader, &handle, &mut io::stdout().lock(), &mut io::stderr())
        }
        Some(file) => {
            let about = |error| format!("{}: {error}", file.display());
            let mut samples = io::BufWriter::new(File::create(&file).map_err(about)?);
            play(reader, &handle, &mut samples, &mut io::stdout())?;
            Ok(samples.flush().map_err(about)?)
        }
    }
}

/// Seeks about in the track, then decodes all of it into the sink.
fn play(reader: PeerReader, handle: &str, sink: &mut dyn Write, report: &mut dyn Write) -> Outcome {
    let made = Arc::new(AtomicU64::new(reader.requests()));
    let mut requests = Requests {
        made: Arc::clone(&made),
        told: 0,
    };
    let started = Instant::now();
    let mut track = Track::open(
        Media {
            reader,
            requests: made,
        },
        handle,
    )?;
    let opened = started.elapsed().as_secs_f64() * 1e3;
    writeln!(report, "format    {}", track.description)?;
    match track.seconds {
        Some(seconds) => writeln!(report, "duration  {seconds:.2} s")?,
        None => writeln!(report, "duration  not told")?,
    }
    writeln!(report, "opened    in {opened:.1} ms, {}", requests.since())?;

    for part in SEEKS {
        let Some(seconds) = track.seconds else { break };
        let started = Instant::now();
        track.seek(part * seconds)?;
        // A seek has done its work when there is something to hear.
        track.decode(&mut io::sink())?;
        let spent = started.elapsed().as_secs_f64() * 1e3;
        let to = part * seconds;
        writeln!(
            report,
            "seek      to {to:.2} s in {spent:.1} ms, {}",
            requests.since()
        )?;
    }

    track.seek(0.0)?;
    let started = Instant::now();
    let mut frames = 0;
    while let Some(more) = track.decode(sink)? {
        frames += more;
    }
    sink.flush()?;
    let played = frames as f64 / f64::from(track.rate);
    let spent = started.elapsed().as_secs_f64();
    writeln!(
        report,
        "played    {played:.2} s in {spent:.2} s, {}",
        requests.since()
    )?;
    if track
        .seconds
        .is_some_and(|seconds| played + MISSING_SECONDS_MAX < seconds)
    {
        return Err("the track ends early".into());
    }
    Ok(())
}

/// The audio track of some media, and what decodes it.
struct Track {
    format: Box<dyn FormatReader>,
    decoder: Box<dyn AudioDecoder>,
    id: u32,
    rate: u32,
    description: String,
    seconds: Option<f64>,
    samples: Vec<u8>,
}

impl Track {
    fn open(source: impl MediaSource + 'static, handle: &str) -> Result<Self, MediaError> {
        let stream = MediaSourceStream::new(Box::new(source), MediaSourceStreamOptions::default());
        let mut hint = Hint::new();
        if let Some((_, extension)) = handle.rsplit_once('.') {
            hint.with_extension(extension);
        }
        let (options, metadata) = (FormatOptions::default(), MetadataOptions::default());
        let format = symphonia::default::get_probe().probe(&hint, stream, options, metadata)?;

        let missing = || MediaError::Unsupported("no audio track");
        let track = format.default_track(TrackType::Audio).ok_or_else(missing)?;
        let parameters = track.codec_params.as_ref().and_then(CodecParameters::audio);
        let parameters = parameters.ok_or_else(missing)?;
        let rate = parameters.sample_rate.ok_or_else(missing)?;
        let decoder = symphonia::default::get_codecs()
            .make_audio_decoder(parameters, &AudioDecoderOptions::default())?;
        let channels = parameters.channels.as_ref().map_or(0, Channels::count);
        let seconds = |base: TimeBase| Some(base.calc_duration(track.duration?)?.as_secs_f64());
        Ok(Self {
            id: track.id,
            rate,
            description: format!(
                "{} in {}, {rate} Hz, {channels} channels",
                decoder.codec_info().short_name,
                format.format_info().short_name
            ),
            seconds: track.time_base.and_then(seconds),
            decoder,
            format,
            samples: Vec::new(),
        })
    }

    fn seek(&mut self, seconds: f64) -> Result<(), MediaError> {
        let time = Time::try_from_secs_f64(seconds).unwrap_or(Time::ZERO);
        let to = SeekTo::Time {
            time,
            track_id: Some(self.id),
        };
        self.format.seek(SeekMode::Accurate, to)?;
        self.decoder.reset();
        Ok(())
    }

    /// Decodes one packet and writes its samples: 16 bits, little-endian, channels in turn.
    ///
    /// Gives the frames in it, a frame being one sample of each channel, or `None` at the end.
    fn decode(&mut self, sink: &mut dyn Write) -> Outcome<Option<usize>> {
        loop {
            let packet = match self.format.next_packet() {
                Ok(Some(packet)) => packet,
                // Some media end in a piece of a packet. Whether too much is missing shows in
                // what was played.
                Ok(None) | Err(MediaError::DecodeError(_)) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            if packet.track_id != self.id {
                continue;
            }
            match self.decoder.decode(&packet) {
                Ok(decoded) => {
                    decoded.copy_bytes_to_vec_interleaved_as::<i16>(&mut self.samples);
                    sink.write_all(&self.samples)?;
                    return Ok(Some(decoded.frames()));
                }
                // One damaged packet: players go on with the next.
                Err(MediaError::DecodeError(_)) => continue,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// A reader as symphonia wants it. It goes where nobody else can ask it, so it leaves its count
/// of requests outside.
struct Media {
    reader: PeerReader,
    requests: Arc<AtomicU64>,
}

impl Read for Media {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buf);
        self.requests
            .store(self.reader.requests(), Ordering::Relaxed);
        read
    }
}

impl Seek for Media {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.reader.seek(to)
    }
}

impl MediaSource for Media {
    fn is_seekable(&self) -> bool {
        self.reader.len().is_some()
    }

    fn byte_len(&self) -> Option<u64> {
        self.reader.len()
    }
}

/// How many requests the reader has made, and how many of them were told of already.
struct Requests {
    made: Arc<AtomicU64>,
    told: u64,
}

impl Requests {
    fn since(&mut self) -> String {
        let made = self.made.load(Ordering::Relaxed);
        let new = made - mem::replace(&mut self.told, made);
        format!("{new} request{}", if new == 1 { "" } else { "s" })
    }
}
