//! Every cap of the wire format, with its reason.

/// Bytes of a head, from its first byte to the empty line. 16 KiB is what h11 and Apache's sum of
/// defaults allow; one buffer of this size is all that a peer without the token can fill.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Bytes of a request-line or status-line with its CRLF. RFC 9112 §3 recommends at least 8000.
pub const START_LINE_BYTES_MAX: usize = 8 * 1024;

/// Empty lines ignored before a request-line (RFC 9112 §2.2 asks for at least one).
pub const EMPTY_LINES_MAX: usize = 4;

/// Field lines of one head or one trailer section.
pub const FIELD_LINES_MAX: usize = 64;

/// Hexadecimal digits of a chunk-size: a `u64` needs no more.
pub const CHUNK_SIZE_DIGITS_MAX: usize = 16;

/// Bytes of one chunk-size line's extensions. Nobody sends any; a peer that sends endless ones
/// makes us read without content.
pub const CHUNK_EXTENSION_BYTES_MAX: usize = 4 * 1024;

/// Bytes of a trailer section.
pub const TRAILER_BYTES_MAX: usize = HEAD_BYTES_MAX;

/// Parts of one `multipart/byteranges` answer.
pub const RANGES_MAX: usize = 16;

/// Ranges read from one `Range` field before it is ignored (RFC 9110 §14.2 allows ignoring many
/// small ranges).
pub const RANGE_SPECS_MAX: usize = 200;

/// Bytes of request content that are read past so that the connection can go on. More closes it.
pub const DISCARD_BYTES_MAX: u64 = 16 * 1024;

/// Bytes between the quotes of an [`EntityTag`](crate::EntityTag).
pub const ENTITY_TAG_BYTES_MAX: usize = 78;

#[cfg(test)]
mod tests {
    use super::*;

    /// What peers may rely on: a change here is a change of the protocol.
    #[test]
    fn the_documented_values() {
        assert_eq!(HEAD_BYTES_MAX, 16_384);
        assert_eq!(START_LINE_BYTES_MAX, 8192);
        assert_eq!(CHUNK_EXTENSION_BYTES_MAX, 4096);
        assert_eq!(TRAILER_BYTES_MAX, 16_384);
        assert_eq!(DISCARD_BYTES_MAX, 16_384);
    }
}
