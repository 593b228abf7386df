//! What the client makes of an answer: rows of exact bytes and exact verdicts.
//!
//! One law is behind every row: a call that returns `Ok` delivered exactly the bytes asked for.
//! The rows were written from RFC 9110 and RFC 9112, not from the client. Where the RFC leaves the
//! recipient a choice, the row names each outcome that keeps the law.

mod chunked;
mod close_delimited;
mod content_range;
mod cut;
mod encoding;
mod head;
mod input;
mod interim;
mod keep_alive;
mod length;
mod memory;
mod published;
mod request;
mod resume;
mod status;
mod table;
mod timeouts;
mod unsolicited;
mod whole_for_range;
mod writer;
