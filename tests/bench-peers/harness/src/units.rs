//! Single steps, repeated: what they cost is counted by whoever runs this under callgrind.

use std::hint::black_box;

use peer_core::plan::select;
use peer_proto::{RequestHead, range::RangeSet};

/// A request as a peer of ours sends it.
pub(crate) const HEAD: &[u8] = b"GET /track/7c9e6679-7425-40de-944b-e07fc1f90ae7 HTTP/1.1\r\n\
    Host: 192.168.178.23:53871\r\n\
    Authorization: Bearer 0123456789abcdef0123456789abcdef\r\n\
    Accept-Encoding: identity\r\n\
    Range: bytes=137853952-138902527\r\n\r\n";

/// `units NAME COUNT`
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let [name, count] = arguments else {
        return Err("units NAME COUNT".to_owned());
    };
    let count: u64 = count
        .parse()
        .map_err(|_| format!("`{count}` is no count"))?;
    let unit: fn() = match name.as_str() {
        "nothing" => || {},
        "httparse" => httparse,
        "head" => head,
        "range" => range,
        _ => return Err(format!("no unit `{name}`")),
    };
    for _ in 0..count {
        black_box(unit)();
    }
    Ok(())
}

/// httparse alone, with room for the usual number of lines: clearing more would cost it more.
fn httparse() {
    let mut fields = [httparse::EMPTY_HEADER; 12];
    let mut request = httparse::Request::new(&mut fields);
    let parsed = request.parse(black_box(HEAD));
    assert!(black_box(parsed).is_ok_and(|parsed| parsed.is_complete()));
}

/// Our head, which holds httparse's field lines and what is checked and kept beyond them.
fn head() {
    let parsed = RequestHead::parse(black_box(HEAD));
    assert!(black_box(&parsed).as_ref().is_ok_and(Option::is_some));
}

/// From the value of a `Range` field to the bytes to send.
fn range() {
    let set = RangeSet::parse(black_box(b"bytes=137853952-138902527"));
    let set = set.expect("this is a range set");
    black_box(select(black_box(&set), black_box(1 << 30)));
}
