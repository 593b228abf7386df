//! Deadlines, and clocks that jump.

use super::*;

#[test]
fn strangers_have_one_deadline_for_all_they_send() {
    let mut peer = Peer::new("");
    let head = peer.connection.config.head_timeout;
    let stranger = get("").replace("Bearer t", "Bearer x");
    peer.now.instant += head / 2;
    assert_eq!(peer.receive(stranger.as_bytes()), None);
    peer.now.instant += head / 2;
    assert_eq!(peer.receive(b"GET /"), None);
    peer.connection.handle_timeout(peer.now);
    peer.receive(b"");
    assert!(
        peer.answers()
            .contains("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n")
    );
}

#[test]
fn paired_peers_have_a_deadline_for_each_thing() {
    let mut peer = Peer::new("0123456789");
    let ServerConfig {
        head_timeout,
        idle_timeout,
        linger_timeout,
        ..
    } = peer.connection.config;
    assert_eq!(peer.receive(get("").as_bytes()), None);
    assert_eq!(
        peer.connection.poll_timeout(),
        Some((Deadline::Idle, peer.now.instant + idle_timeout))
    );
    peer.wait(idle_timeout - Duration::from_millis(1));
    assert_eq!(peer.receive(b"GET"), None);
    assert_eq!(
        peer.connection.poll_timeout(),
        Some((Deadline::Head, peer.now.instant + head_timeout))
    );
    let armed = peer.connection.poll_timeout();
    peer.now.instant += Duration::from_secs(1);
    assert_eq!(peer.receive(b" /"), None);
    assert_eq!(peer.connection.poll_timeout(), armed, "not per read");
    peer.wait(head_timeout);
    assert_eq!(peer.receive(b""), None);
    assert!(peer.answers().contains("HTTP/1.1 408"));
    assert_eq!(
        peer.connection.poll_timeout(),
        Some((Deadline::Linger, peer.now.instant + linger_timeout))
    );
    peer.wait(linger_timeout);
    let reason = CloseReason::TimedOut(Deadline::Head);
    assert_eq!(peer.connection.poll_output(), Output::Close { reason });
}

#[test]
fn a_suspended_phone_is_not_a_failed_peer() {
    let mut peer = Peer::new("0123456789");
    assert_eq!(peer.receive(get("").as_bytes()), None);
    peer.wait(Duration::from_secs(8 * 60 * 60));
    assert_eq!(peer.connection.poll_output(), Output::Receive);
    assert_eq!(peer.receive(get("").as_bytes()), None);
    assert_eq!(peer.answers(), WHOLE.repeat(2));
}

/// Whatever is waited for when the phone is put away: the time for it begins again once it is back,
/// and ends as it would have.
#[test]
fn each_deadline_survives_a_suspension() {
    type Scene = (&'static str, Deadline, fn(&mut Peer));
    let scenes: [Scene; 6] = [
        ("a stranger, silent", Deadline::Head, |_| {}),
        ("a stranger's head", Deadline::Head, |peer| {
            assert_eq!(peer.receive(b"GET /tr"), None);
        }),
        ("a later head", Deadline::Head, |peer| {
            assert_eq!(peer.receive((get("") + "GET /tr").as_bytes()), None);
        }),
        ("the next request", Deadline::Idle, |peer| {
            assert_eq!(peer.receive(get("").as_bytes()), None);
        }),
        ("content", Deadline::Stall, |peer| {
            let request = get("");
            peer.connection.receive_buffer()[..request.len()].copy_from_slice(request.as_bytes());
            peer.connection.handle_received(peer.now, request.len());
            let granted = Authorization::Granted;
            peer.connection.handle_authorized(peer.now, granted);
            let source = SourceInfo {
                complete_length: Some(10),
                ..SourceInfo::default()
            };
            peer.connection.handle_source(peer.now, Some(source));
        }),
        ("the peer's end", Deadline::Linger, |peer| {
            // Refused, and the rest of it is not read as a request.
            assert_eq!(peer.receive(b"nonsense\r\n\r\n"), None);
        }),
    ];
    for (scene, deadline, begin) in scenes {
        let mut peer = Peer::new("0123456789");
        begin(&mut peer);
        let (armed, at) = peer.connection.poll_timeout().expect(scene);
        assert_eq!(armed, deadline, "{scene}");
        let whole = at.duration_since(peer.now.instant);
        let before = format!("{:?}", peer.connection.poll_output());
        peer.wait(Duration::from_secs(8 * 60 * 60));
        let renewed = Some((deadline, peer.now.instant + whole));
        assert_eq!(peer.connection.poll_timeout(), renewed, "{scene}");
        assert_eq!(format!("{:?}", peer.connection.poll_output()), before);
        peer.wait(whole);
        let end = match peer.receive(b"") {
            // It was told first.
            None => {
                assert!(peer.answers().contains("HTTP/1.1 408"), "{scene}");
                peer.wait(peer.connection.config.linger_timeout);
                peer.receive(b"")
            }
            end => end,
        };
        if deadline == Deadline::Linger {
            // Nothing is to be done any more: it ends for what it was refused for.
            assert!(
                matches!(end, Some(CloseReason::Refused(_))),
                "{scene}: {end:?}"
            );
        } else {
            assert_eq!(end, Some(CloseReason::TimedOut(deadline)), "{scene}");
        }
    }
}

#[test]
fn a_suspended_phone_gives_a_stranger_one_more_deadline_not_one_for_each_request() {
    let mut peer = Peer::new("");
    let head = peer.connection.config.head_timeout;
    let stranger = get("").replace("Bearer t", "Bearer x");
    peer.wait(Duration::from_secs(8 * 60 * 60));
    let renewed = Some((Deadline::Head, peer.now.instant + head));
    assert_eq!(peer.connection.poll_timeout(), renewed);
    peer.now.instant += head / 2;
    assert_eq!(peer.receive(stranger.as_bytes()), None);
    assert_eq!(peer.connection.poll_timeout(), renewed);
    peer.wait(head / 2);
    let reason = CloseReason::TimedOut(Deadline::Head);
    assert_eq!(peer.connection.poll_output(), Output::Close { reason });
}

#[test]
fn a_reader_that_takes_nothing_stalls() {
    let mut peer = Peer::new("0123456789");
    let ServerConfig { stall_timeout, .. } = peer.connection.config;
    let request = get("");
    peer.connection.receive_buffer()[..request.len()].copy_from_slice(request.as_bytes());
    peer.connection.handle_received(peer.now, request.len());
    peer.connection
        .handle_authorized(peer.now, Authorization::Granted);
    assert_eq!(
        peer.connection.poll_timeout(),
        None,
        "the app may take its time"
    );
    let source = SourceInfo {
        complete_length: Some(10),
        ..SourceInfo::default()
    };
    peer.connection.handle_source(peer.now, Some(source));
    peer.wait(stall_timeout - Duration::from_millis(1));
    peer.connection.handle_progress(peer.now);
    peer.wait(stall_timeout - Duration::from_millis(1));
    assert!(matches!(
        peer.connection.poll_output(),
        Output::SendSource { offset: 0, .. }
    ));
    peer.wait(Duration::from_millis(1));
    let reason = CloseReason::TimedOut(Deadline::Stall);
    assert_eq!(peer.connection.poll_output(), Output::Close { reason });
}
