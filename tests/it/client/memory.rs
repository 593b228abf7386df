//! Nothing is allocated on a peer's word: a length is a claim, and only bytes are bytes.

use peer_tests::script::{Script, Step, response};

use crate::capability::{Capability, has};

use super::table::{CONTENT, Row, WHOLE, broken, from, known, range, run, unknown};

#[test]
fn huge_claims() {
    let bounded = has(&[Capability::OwnNumbers, Capability::NotEmulated]);
    let before = bounded.then(virtual_peak);
    let mut rows = Vec::new();
    let lengths = [
        1u64 << 31,
        (1 << 32) + 36,
        1 << 36,
        1 << 40,
        1 << 47,
        1 << 62,
        1 << 63,
        u64::MAX,
    ];
    for length in lengths {
        let fin = |answer: Vec<u8>| Script::always([Step::Send(answer), Step::Fin]);
        let whole = response(
            "HTTP/1.1 200 OK",
            &[&format!("Content-Length: {length}")],
            CONTENT,
        );
        rows.push(
            Row::new(format!("200 of {length}"), fin(whole.clone()))
                .fetch(broken(36))
                .length(known(length)),
        );
        let bounded = Row::new(format!("200 of {length}, bounded"), fin(whole));
        rows.push(bounded.ask(range(0, u64::MAX)).fetch(broken(36)));
        if let Some(end) = length.checked_add(5) {
            let fields = [
                format!("Content-Range: bytes 5-{}/{end}", end - 1),
                format!("Content-Length: {length}"),
            ];
            let part = response("HTTP/1.1 206 x", &[&fields[0], &fields[1]], &CONTENT[5..]);
            rows.push(
                Row::new(format!("206 of {length}"), fin(part.clone()))
                    .ask(from(5))
                    .fetch(broken(31)),
            );
            rows.push(
                Row::new(format!("206 of {length}, bounded"), fin(part))
                    .ask(range(5, length))
                    .fetch(broken(31)),
            );
        }
        let size = format!("{length:x}\r\n");
        let framed = [size.as_bytes(), CONTENT].concat();
        let framed = response("HTTP/1.1 200 OK", &["Transfer-Encoding: chunked"], &framed);
        rows.push(
            Row::new(format!("a chunk of {length}"), fin(framed))
                .ask(WHOLE)
                .fetch(broken(36))
                .length(unknown()),
        );
    }
    run(rows);
    if let Some(before) = before {
        // Other tests of this process run meanwhile, so the bound is wide; the smallest claim
        // above is far beyond it all the same.
        let grown = virtual_peak().saturating_sub(before);
        assert!(
            grown < 1 << 20,
            "the peak of virtual memory grew by {grown} KiB"
        );
    }
}

/// `VmPeak` in KiB: what the process reserved at most, touched or not.
fn virtual_peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmPeak:"));
    let words = line.unwrap().split_ascii_whitespace().nth(1);
    words.unwrap().parse().unwrap()
}
