//! symphonia on a `PeerReader`: sample for sample what it decodes from the file itself.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cranpose_services::peer::{
    ByteSource, EntityTag, FileSource, PeerClient, PeerReader, PeerServer, SourceResolver,
};

use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, SeekMode, SeekTo, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream, MediaSourceStreamOptions};
use symphonia::core::meta::MetadataOptions;
use symphonia::core::units::Time;

use super::media::{FLAC, LARGE, M4A, MP3, MP3_VARIABLE, Medium, OGG, WAV};

// Requests for a hundred seeks, as measured on loopback: mp3 2, FLAC 129, Ogg Vorbis 3, wav 68,
// mp4 5. What the reader keeps covers the smaller files, and docs/BENCHMARKS.md has the figures of
// larger ones; FLAC without a seek table is searched by halves. The bounds below leave room for
// slower machines, where reading on is the better choice less often.

/// Seeks in each file.
const SEEKS: u64 = 100;
/// Packets decoded after each.
const PACKETS: usize = 4;

/// The audio track of some media.
struct Track {
    format: Box<dyn FormatReader>,
    decoder: Box<dyn AudioDecoder>,
    id: u32,
}

impl Track {
    fn open(source: Box<dyn MediaSource>) -> Self {
        let stream = MediaSourceStream::new(source, MediaSourceStreamOptions::default());
        let (format, metadata) = (FormatOptions::default(), MetadataOptions::default());
        let probe = symphonia::default::get_probe();
        let format = probe.probe(&Hint::new(), stream, format, metadata).unwrap();
        let track = format.default_track(TrackType::Audio).unwrap();
        let parameters = track.codec_params.as_ref().unwrap().audio().unwrap();
        let options = AudioDecoderOptions::default();
        let decoder = symphonia::default::get_codecs().make_audio_decoder(parameters, &options);
        Self {
            id: track.id,
            decoder: decoder.unwrap(),
            format,
        }
    }

    /// The samples of at most so many packets from here on, and how the media ended, if it did.
    ///
    /// An error is one of the results to compare: symphonia 0.6.1 looks for a further atom at the
    /// end of an mp4 whose last packet is cut short, finds none, in the file as well, and then
    /// decodes no more.
    fn decode(&mut self, packets: usize) -> (Vec<f32>, String) {
        let (mut samples, mut some) = (Vec::new(), Vec::new());
        let mut left = packets;
        while left > 0 {
            let packet = match self.format.next_packet() {
                Ok(Some(packet)) => packet,
                Ok(None) => return (samples, "the end".to_owned()),
                Err(error) => return (samples, error.to_string()),
            };
            if packet.track_id == self.id {
                self.decoder
                    .decode(&packet)
                    .unwrap()
                    .copy_to_vec_interleaved::<f32>(&mut some);
                samples.extend_from_slice(&some);
                left -= 1;
            }
        }
        (samples, String::new())
    }

    /// Goes to a time and gives where that led.
    fn seek(&mut self, milliseconds: i64) -> i64 {
        let to = SeekTo::Time {
            time: Time::from_millis(milliseconds),
            track_id: Some(self.id),
        };
        let seeked = self.format.seek(SeekMode::Accurate, to).unwrap();
        self.decoder.reset();
        seeked.actual_ts.get()
    }
}

/// A reader that leaves its count of requests outside.
struct Counted {
    reader: PeerReader,
    requests: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buf);
        self.requests
            .store(self.reader.requests(), Ordering::Relaxed);
        read
    }
}

impl Seek for Counted {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.reader.seek(to)
    }
}

impl MediaSource for Counted {
    fn is_seekable(&self) -> bool {
        true
    }

    fn byte_len(&self) -> Option<u64> {
        self.reader.len()
    }
}

/// A file that counts what is read of it.
struct CountedFile {
    file: FileSource,
    bytes: Arc<AtomicU64>,
}

impl ByteSource for CountedFile {
    fn len(&self) -> Option<u64> {
        self.file.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(offset, buf)?;
        self.bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }

    fn entity_tag(&self) -> Option<EntityTag> {
        self.file.entity_tag()
    }
}

/// What decoding and seeking cost in files that are larger than what a reader keeps.
#[test]
#[ignore = "takes minutes; cargo test --release -p peer-tests requests_for -- --ignored --nocapture"]
fn requests_for_larger_files() {
    for medium in LARGE {
        let Some(file) = medium.file() else { return };
        let bytes = Arc::new(AtomicU64::new(0));
        let resolver: SourceResolver = {
            let bytes = Arc::clone(&bytes);
            Arc::new(move |_| {
                let (file, bytes) = (FileSource::open(&file).ok()?, Arc::clone(&bytes));
                Some(Arc::new(CountedFile { file, bytes }) as Arc<dyn ByteSource>)
            })
        };
        let server = PeerServer::start("127.0.0.1:0", "secret", resolver).unwrap();
        let client = PeerClient::builder(server.local_addr().to_string(), "secret");
        let client = client.build().unwrap();
        let requests = Arc::new(AtomicU64::new(0));
        let open = || {
            let reader = client.reader(medium.name).unwrap();
            let requests = Arc::clone(&requests);
            Track::open(Box::new(Counted { reader, requests }))
        };
        // Requests and bytes since the last look.
        let mut seen = (0, 0);
        let mut cost = |of_one_reader: bool| {
            let now = (
                requests.load(Ordering::Relaxed),
                bytes.load(Ordering::Relaxed),
            );
            let before = if of_one_reader { seen.0 } else { 0 };
            let cost = (now.0 - before, (now.1 - seen.1) as f64 / 1e6);
            seen = now;
            cost
        };
        let whole = open().decode(usize::MAX).0.len();
        let fresh = cost(false);
        let mut track = open();
        let opened = cost(false);
        let mut state = 7_u64;
        for _ in 0..SEEKS {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let end = i64::from(medium.seconds - 1) * 1000;
            track.seek(i64::try_from(state >> 33).unwrap() % end);
            assert!(!track.decode(PACKETS).0.is_empty());
        }
        let seeks = cost(true);
        track.seek(0);
        assert_eq!(track.decode(usize::MAX).0.len(), whole);
        let again = cost(true);
        println!(
            "{} of {:.1} MB (requests, MB): whole {fresh:.1?}; opened {opened:.1?}; \
             {SEEKS} seeks {seeks:.1?}; from its start {again:.1?}",
            medium.name,
            server_len(&client, medium.name) as f64 / 1e6
        );
        assert!(again.0 <= fresh.0 + 4, "{again:?} after {fresh:?}");
    }
}

fn server_len(client: &PeerClient, name: &str) -> u64 {
    client.content_length(name).unwrap().unwrap()
}

/// Decodes and seeks in the file and in what a peer shares of it. At most so many requests
/// are made for one seek, on the whole.
fn compare(medium: &Medium, requests_per_seek_max: u64) {
    let Some(file) = medium.file() else { return };
    let resolver: SourceResolver = {
        let file = file.clone();
        Arc::new(move |_| Some(Arc::new(FileSource::open(&file).ok()?) as Arc<dyn ByteSource>))
    };
    let server = PeerServer::start("127.0.0.1:0", "secret", resolver).unwrap();
    let client = PeerClient::builder(server.local_addr().to_string(), "secret")
        .build()
        .unwrap();
    let requests = Arc::new(AtomicU64::new(0));
    let local = || Track::open(Box::new(File::open(&file).unwrap()));
    let remote = || {
        let reader = client.reader(medium.name).unwrap();
        Track::open(Box::new(Counted {
            reader,
            requests: Arc::clone(&requests),
        }))
    };

    let whole = local().decode(usize::MAX);
    assert!(whole.0.len() > 59 * 44_100 * 2, "{} samples", whole.0.len());
    assert!(
        remote().decode(usize::MAX) == whole,
        "{}: decoded whole",
        medium.name
    );
    let for_whole = requests.load(Ordering::Relaxed);

    let (mut local, mut remote) = (local(), remote());
    let mut state = 7_u64;
    for _ in 0..SEEKS {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let milliseconds = i64::try_from(state >> 33).unwrap() % 59_000;
        assert_eq!(remote.seek(milliseconds), local.seek(milliseconds));
        let samples = local.decode(PACKETS);
        assert!(!samples.0.is_empty(), "nothing after {milliseconds} ms");
        assert!(
            remote.decode(PACKETS) == samples,
            "{}: at {milliseconds} ms",
            medium.name
        );
    }
    let for_seeks = requests.load(Ordering::Relaxed);
    println!(
        "{}: {for_whole} requests to decode it, {for_seeks} for {SEEKS} seeks",
        medium.name
    );
    assert!(
        for_seeks <= requests_per_seek_max * SEEKS,
        "{for_seeks} requests"
    );
}

#[test]
fn decodes_mp3() {
    compare(&MP3, 2);
}

#[test]
fn decodes_mp3_of_variable_rate() {
    compare(&MP3_VARIABLE, 2);
}

#[test]
fn decodes_flac() {
    compare(&FLAC, 3);
}

#[test]
fn decodes_ogg_vorbis() {
    compare(&OGG, 2);
}

#[test]
fn decodes_wav() {
    compare(&WAV, 2);
}

#[test]
fn decodes_mp4_with_moov_last() {
    compare(&M4A, 2);
}
