//! Media types by file name extension: what players need in order to pick a demuxer.

/// Extension in lower case, media type. Sorted, for the reader and for the search.
const TYPES: &[(&str, &str)] = &[
    ("3g2", "video/3gpp2"),
    ("3gp", "video/3gpp"),
    ("aac", "audio/aac"),
    ("aif", "audio/aiff"),
    ("aiff", "audio/aiff"),
    ("amr", "audio/amr"),
    ("ape", "audio/x-ape"),
    ("ass", "text/x-ssa"),
    ("avi", "video/x-msvideo"),
    ("avif", "image/avif"),
    ("bmp", "image/bmp"),
    ("caf", "audio/x-caf"),
    ("cue", "application/x-cue"),
    ("dsf", "audio/x-dsf"),
    ("flac", "audio/flac"),
    ("flv", "video/x-flv"),
    ("gif", "image/gif"),
    ("heic", "image/heic"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("json", "application/json"),
    ("jxl", "image/jxl"),
    ("lrc", "text/plain; charset=utf-8"),
    ("m2ts", "video/mp2t"),
    ("m3u", "audio/mpegurl"),
    ("m3u8", "application/vnd.apple.mpegurl"),
    ("m4a", "audio/mp4"),
    ("m4b", "audio/mp4"),
    ("m4s", "video/iso.segment"),
    ("m4v", "video/mp4"),
    ("mid", "audio/midi"),
    ("midi", "audio/midi"),
    ("mka", "audio/matroska"),
    ("mkv", "video/matroska"),
    ("mov", "video/quicktime"),
    ("mp2", "audio/mpeg"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("mpd", "application/dash+xml"),
    ("mpeg", "video/mpeg"),
    ("mpg", "video/mpeg"),
    ("oga", "audio/ogg"),
    ("ogg", "audio/ogg"),
    ("ogv", "video/ogg"),
    ("opus", "audio/ogg; codecs=opus"),
    ("pls", "audio/x-scpls"),
    ("png", "image/png"),
    ("srt", "application/x-subrip"),
    ("ssa", "text/x-ssa"),
    ("svg", "image/svg+xml"),
    ("ts", "video/mp2t"),
    ("ttml", "application/ttml+xml"),
    ("txt", "text/plain; charset=utf-8"),
    ("vtt", "text/vtt"),
    ("wav", "audio/wav"),
    ("weba", "audio/webm"),
    ("webm", "video/webm"),
    ("webp", "image/webp"),
    ("wma", "audio/x-ms-wma"),
    ("wmv", "video/x-ms-wmv"),
    ("wv", "audio/x-wavpack"),
    ("xspf", "application/xspf+xml"),
];

/// The media type for a file name extension, in any case.
pub(crate) fn of_extension(extension: &str) -> Option<&'static str> {
    let extension = extension.to_ascii_lowercase();
    let at = TYPES
        .binary_search_by_key(&extension.as_str(), |(known, _)| known)
        .ok()?;
    Some(TYPES[at].1)
}

/// The extension that players look for with a media type, whatever its parameters.
pub(crate) fn extension_for(media_type: &str) -> Option<&'static str> {
    let essence = essence_of(media_type);
    // Where several extensions share a type, and the first is not the usual one; and old names.
    let usual = match &*essence {
        "audio/mpeg" | "audio/mp3" => "mp3",
        "audio/mp4" | "audio/x-m4a" => "m4a",
        "audio/x-flac" => "flac",
        "audio/ogg" | "application/ogg" => "ogg",
        "audio/wave" | "audio/x-wav" | "audio/vnd.wave" => "wav",
        "audio/x-matroska" => "mka",
        "video/mp4" => "mp4",
        "video/mp2t" => "ts",
        "video/mpeg" => "mpg",
        "video/x-matroska" => "mkv",
        "image/jpeg" => "jpg",
        "text/plain" => "txt",
        _ => {
            let known = |(_, media_type): &&(_, &str)| essence_of(media_type) == essence;
            return TYPES.iter().find(known).map(|(extension, _)| *extension);
        }
    };
    Some(usual)
}

/// Whether a browser that is led to content of this type runs what is in it.
pub(crate) fn is_active(media_type: &str) -> bool {
    let essence = essence_of(media_type);
    essence.ends_with("html") || essence.ends_with("xml") || essence.contains("script")
}

fn essence_of(media_type: &str) -> String {
    let essence = media_type.split(';').next().unwrap_or_default();
    essence.trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted_and_sendable() {
        assert!(TYPES.windows(2).all(|pair| pair[0].0 < pair[1].0));
        for (extension, media_type) in TYPES {
            assert!(
                peer_proto::field::is_field_value(media_type.as_bytes()),
                "{extension}"
            );
            assert_eq!(of_extension(&extension.to_uppercase()), Some(*media_type));
        }
        for (_, media_type) in TYPES {
            let extension = extension_for(media_type).unwrap();
            let back = of_extension(extension).unwrap();
            assert_eq!(essence_of(back), essence_of(media_type));
        }
        assert_eq!(extension_for("Audio/MPEG; codecs=mp3"), Some("mp3"));
        assert_eq!(extension_for("application/octet-stream"), None);
        for active in [
            "text/html",
            "image/svg+xml; a=b",
            "Application/XHTML+XML",
            "text/javascript",
        ] {
            assert!(is_active(active), "{active}");
        }
        assert!(!is_active("audio/mpeg") && !is_active("text/plain"));
        assert_eq!(of_extension("exe"), None);
        assert_eq!(of_extension(""), None);
    }
}
