//! What is answered, to the byte, and where a source fails.

use super::*;

#[test]
fn whole_and_again() {
    check("0123456789", &get(""), WHOLE, None);
    check("0123456789", &get("").repeat(3), &WHOLE.repeat(3), None);
}

#[test]
fn a_range() {
    let expected = "HTTP/1.1 206 Partial Content\r\nCache-Control: private, no-transform\r\n\
         Accept-Ranges: bytes\r\nContent-Type: audio/mpeg\r\nContent-Length: 4\r\n\
         Content-Range: bytes 2-5/10\r\n\r\n2345";
    check("0123456789", &get("Range: bytes=2-5\r\n"), expected, None);
}

#[test]
fn several_ranges() {
    let line = format!("{:032x}", 1);
    let part = |range: &str, content: &str| {
        format!(
            "--{line}\r\nContent-Type: audio/mpeg\r\nContent-Range: bytes {range}/10\r\n\r\n{content}\r\n"
        )
    };
    let content = part("0-3", "0123") + &part("9-9", "9") + &format!("--{line}--\r\n");
    let expected = format!(
        "HTTP/1.1 206 Partial Content\r\nCache-Control: private, no-transform\r\nAccept-Ranges: bytes\r\n\
         Content-Type: multipart/byteranges; boundary={line}\r\nContent-Length: {}\r\n\r\n{content}",
        content.len()
    );
    check(
        "0123456789",
        &get("Range: bytes=0-3,-1\r\n"),
        &expected,
        None,
    );
}

#[test]
fn head_has_no_content() {
    let request = get("Range: bytes=2-5\r\n").replace("GET", "HEAD") + &get("");
    let head = WHOLE.strip_suffix("0123456789").unwrap();
    check("0123456789", &request, &format!("{head}{WHOLE}"), None);
}

#[test]
fn unknown_length() {
    let mut peer = Peer::new("01234");
    peer.length = None;
    peer.receive(get("Range: bytes=2-\r\n").as_bytes());
    let head = "HTTP/1.1 200 OK\r\nCache-Control: private, no-transform\r\nAccept-Ranges: none\r\n\
                Content-Type: audio/mpeg\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(
        peer.answers(),
        format!("{head}3\r\n012\r\n2\r\n34\r\n0\r\n\r\n")
    );
    let mut peer = Peer::new("01234");
    peer.length = None;
    let end = peer.receive(get("Connection: close\r\n").as_bytes());
    assert!(peer.answers().ends_with("\r\n\r\n01234"));
    assert_eq!(end, Some(CloseReason::Finished));
    let mut peer = Peer::new("01234");
    peer.length = None;
    peer.receive(get("Connection: close\r\nRange: bytes=1-\r\n").as_bytes());
    assert!(peer.answers().starts_with("HTTP/1.1 416 "));
    assert!(!peer.answers().contains("Content-Range"));
}

#[test]
fn a_failing_source_is_an_honest_500_or_a_cut() {
    for (length, fails_at, status, cut) in [
        (Some(10), 0, "500 Internal Server Error", false),
        (Some(10), 3, "200 OK", true),
        (None, 0, "500 Internal Server Error", false),
        (None, 3, "200 OK", true),
        // It ends before its length.
        (Some(13), 13, "200 OK", true),
    ] {
        let mut peer = Peer::new("0123456789");
        peer.length = length;
        peer.fails_at = Some(fails_at);
        let end = peer.receive(get("").repeat(2).as_bytes());
        assert!(
            peer.answers().starts_with(&format!("HTTP/1.1 {status}")),
            "{fails_at}"
        );
        assert_eq!(end, cut.then_some(CloseReason::SourceFailed), "{fails_at}");
        if cut {
            assert_eq!(
                peer.answers().matches("HTTP/1.1").count(),
                1,
                "nothing comes behind it"
            );
            assert!(!peer.answers().contains("\r\n0\r\n\r\n"), "no last chunk");
        }
    }
}

#[test]
#[should_panic(expected = "sent more than asked for")]
fn sending_more_than_asked_for_is_a_bug() {
    let mut peer = Peer::asked("", &get("Range: bytes=0-4\r\n"), Authorization::Granted);
    let source = SourceInfo {
        complete_length: Some(10),
        ..SourceInfo::default()
    };
    peer.connection.handle_source(peer.now, Some(source));
    peer.connection.handle_sent(peer.now, 6);
}

#[test]
fn a_stream_without_chunks_ends_with_the_connection() {
    for content in ["", "a", "abcdefg"] {
        let mut peer = Peer::new(content);
        peer.length = None;
        let request = "GET /track/a HTTP/1.0\r\nAuthorization: Bearer t\r\n\r\n";
        assert_eq!(
            peer.receive(request.as_bytes()),
            Some(CloseReason::Finished)
        );
        let answers = peer.answers();
        let (head, sent) = answers.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(!head.contains("Content-Length"), "{head}");
        assert_eq!(sent, content);
    }
}

/// The head that a request for `source` is answered with, and whether content follows.
fn head_of(method: &str, fields: &str, source: SourceInfo<'_>) -> (String, bool) {
    let mut peer = Peer::asked(
        "",
        &get(fields).replacen("GET", method, 1),
        Authorization::Granted,
    );
    peer.connection.handle_source(peer.now, Some(source));
    let (head, content) = match peer.connection.poll_output() {
        Output::Send { bytes } => (bytes, false),
        Output::SendSource { prefix, .. } => (prefix, true),
        other => panic!("{other:?}"),
    };
    (String::from_utf8(head.to_vec()).unwrap(), content)
}

#[test]
fn validators_and_types_are_told_to_whom_they_are_news() {
    let modified = peer_proto::HttpDate::parse(b"Sun, 06 Nov 1994 08:49:37 GMT");
    let tag = peer_proto::EntityTag::strong("v").ok();
    let since = "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    for (fields, tag, status, dated, typed) in [
        ("", tag, 200, true, true),
        ("Range: bytes=0-1\r\n", tag, 206, true, true),
        (
            "Range: bytes=0-1\r\nIf-Range: \"v\"\r\n",
            tag,
            206,
            false,
            false,
        ),
        (
            "Range: bytes=0-1\r\nIf-Range: \"w\"\r\n",
            tag,
            200,
            true,
            true,
        ),
        (
            "Range: bytes=0-1,4-5\r\nIf-Range: \"v\"\r\n",
            tag,
            206,
            true,
            false,
        ),
        ("If-None-Match: \"v\"\r\n", tag, 304, false, false),
        (since, tag, 304, false, false),
        (since, None, 304, true, false),
    ] {
        let source = SourceInfo {
            complete_length: Some(10),
            content_type: Some("audio/mpeg"),
            validators: Validators {
                entity_tag: tag,
                last_modified: modified,
            },
        };
        let (head, content) = head_of("GET", fields, source);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        assert_eq!(
            head.contains("\r\nETag: \"v\"\r\n"),
            tag.is_some(),
            "{head}"
        );
        let date = "\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
        assert_eq!(head.contains(date), dated, "{fields}{head}");
        let (own, _parts) = head.split_once("\r\n\r\n").unwrap();
        assert_eq!(
            own.contains("\r\nContent-Type: audio/mpeg"),
            typed,
            "{head}"
        );
        assert_eq!(content, status != 304);
        assert!(!head_of("HEAD", fields, source).1);
    }
}

#[test]
fn what_is_no_media_type_is_not_passed_on() {
    let longest = "a".repeat(255);
    let longer = longest.clone() + "a";
    for (content_type, expected) in [
        (Some("audio/mpeg"), "audio/mpeg"),
        (Some(&*longest), &*longest),
        (Some(&*longer), "application/octet-stream"),
        (Some("a\r\nX: y"), "application/octet-stream"),
        (None, "application/octet-stream"),
    ] {
        let source = SourceInfo {
            complete_length: None,
            content_type,
            ..SourceInfo::default()
        };
        let (head, content) = head_of("GET", "", source);
        assert!(
            head.contains(&format!("\r\nContent-Type: {expected}\r\n")),
            "{head}"
        );
        assert!(content);
        let (head, content) = head_of("HEAD", "", source);
        assert!(head.ends_with("\r\n\r\n") && !content, "{head}");
    }
}

#[test]
fn an_app_that_fails_before_there_is_a_source_is_a_500() {
    let mut peer = Peer::asked("abc", &get(""), Authorization::Granted);
    peer.connection.handle_source_failed(peer.now);
    assert_eq!(peer.receive(b""), None);
    let answers = peer.answers();
    assert!(answers.starts_with("HTTP/1.1 500 "), "{answers}");
    // And when it is over, it is over for the reason that there was.
    peer.connection.handle_eof(peer.now);
    let over = format!("{:?}", peer.connection.poll_output());
    assert!(over.starts_with("Close"), "{over}");
    peer.connection.handle_source_failed(peer.now);
    assert_eq!(format!("{:?}", peer.connection.poll_output()), over);
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "not asked for")]
fn progress_where_nothing_is_sent_is_a_bug() {
    let mut peer = Peer::new("");
    peer.connection.handle_progress(peer.now);
}

#[test]
fn parts_whose_length_cannot_be_said_are_answered_with_the_whole() {
    let mut peer = Peer::new("");
    peer.length = Some(u64::MAX);
    let most = u64::MAX - 2;
    let request = get(&format!("Range: bytes=0-{},{most}-{most}\r\n", most - 200));
    peer.connection.receive_buffer()[..request.len()].copy_from_slice(request.as_bytes());
    peer.connection.handle_received(peer.now, request.len());
    peer.connection
        .handle_authorized(peer.now, Authorization::Granted);
    let source = SourceInfo {
        complete_length: peer.length,
        ..SourceInfo::default()
    };
    peer.connection.handle_source(peer.now, Some(source));
    assert_eq!(peer.connection.status(), Some(Status::Ok));
    assert!(matches!(
        peer.connection.poll_output(),
        Output::SendSource {
            offset: 0,
            len: Some(u64::MAX),
            ..
        }
    ));
}

#[test]
fn of_two_ranges_neither_counts() {
    let mut peer = Peer::new("abc");
    peer.receive(get("Range: bytes=0-0\r\nRange: bytes=1-1\r\n").as_bytes());
    assert!(peer.answers().starts_with("HTTP/1.1 200 OK\r\n"));
}

#[test]
fn a_clock_that_http_cannot_tell_tells_no_date() {
    for (is_told, date) in [(true, Peer::new("").now.date), (false, None)] {
        let mut peer = Peer::new("abc");
        peer.now.date = date;
        peer.receive(get("").as_bytes());
        let sent = String::from_utf8_lossy(&peer.sent);
        assert!(sent.starts_with("HTTP/1.1 200 OK\r\n"), "{sent}");
        assert_eq!(sent.contains("\r\nDate: "), is_told, "{sent}");
    }
}
