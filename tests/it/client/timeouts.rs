//! Deadlines: a peer that says too little for too long is given up, in time, and the error says
//! which deadline it was.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use cranpose_services::peer::{FetchDeadline, PeerClient, PeerError, Timeouts};
use peer_tests::script::{Script, ScriptServer, Step, response};

use super::table::{Ask, CONTENT, Case, HANDLE, TOKEN, WHOLE, range, right, run_cases};

/// The deadline that a row sets; all others are `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    Head,
    Stall,
    Whole,
}

impl Set {
    fn timeouts(self, after: Duration) -> Timeouts {
        let mut timeouts = Timeouts::default();
        (
            timeouts.connect,
            timeouts.head,
            timeouts.stall,
            timeouts.whole,
        ) = (None, None, None, None);
        match self {
            Self::Head => timeouts.head = Some(after),
            Self::Stall => timeouts.stall = Some(after),
            Self::Whole => timeouts.whole = Some(after),
        }
        timeouts
    }

    fn deadline(self) -> FetchDeadline {
        match self {
            Self::Head => FetchDeadline::Head,
            Self::Stall => FetchDeadline::Stall,
            Self::Whole => FetchDeadline::Whole,
        }
    }
}

/// What the client is asked to do.
#[derive(Clone, Copy, Debug)]
enum Doing {
    Range(Ask),
    Writer(Ask),
    Length,
}

/// How a call ended, what a writer got, and how long it took.
type Ended = (Result<Vec<u8>, PeerError>, Vec<u8>, Duration);

/// A name, a script, the deadline that is set, what is asked, how many content bytes may come of
/// it, and whether `content_length` meets the deadline too.
type Row = (&'static str, Vec<Step>, Set, Ask, usize, bool);

/// Runs the call against the script; an outcome without bytes for `content_length`.
fn run_call(script: &[Step], timeouts: Timeouts, doing: Doing) -> Option<Ended> {
    let server = ScriptServer::start(Script::always(script.to_vec()));
    let client = PeerClient::builder(server.base(), TOKEN)
        .timeouts(timeouts)
        .build()
        .unwrap();
    let (done, result) = mpsc::channel();
    thread::spawn(move || {
        let begun = Instant::now();
        let mut written = Vec::new();
        let result = match doing {
            Doing::Range(Ask { start, len }) => client
                .fetch_range(HANDLE, start, len)
                .map(|fetched| fetched.bytes),
            Doing::Writer(Ask { start, len }) => client
                .fetch_to_writer(HANDLE, start, len, &mut written)
                .map(|_| written.clone()),
            Doing::Length => client.content_length(HANDLE).map(|_| Vec::new()),
        };
        drop(done.send((result, written, begun.elapsed())));
    });
    result.recv_timeout(PATIENCE).ok()
}

#[test]
fn that_pass() {
    let head = response("HTTP/1.1 200 OK", &["Content-Length: 36"], b"");
    let with = |content: &[u8]| [&head[..], content].concat();
    let framed = |body: &[u8]| response("HTTP/1.1 200 OK", &["Transfer-Encoding: chunked"], body);
    let send = |bytes: Vec<u8>| vec![Step::Send(bytes), Step::Hold];
    // A byte every half millisecond, for far longer than any deadline here.
    let drip = |start: &[u8], unit: &[u8]| {
        vec![
            Step::Send(start.to_vec()),
            Step::Drip(unit.repeat(12_000 / unit.len()), 1),
            Step::Hold,
        ]
    };
    let fields = b"HTTP/1.1 200 OK\r\nX-Odd: ";
    let long = response("HTTP/1.1 200 OK", &["Content-Length: 99999"], b"");
    let rows: Vec<Row> = vec![
        ("no answer", vec![Step::Hold], Set::Head, WHOLE, 0, true),
        (
            "half a head",
            send(head[..20].to_vec()),
            Set::Head,
            WHOLE,
            0,
            true,
        ),
        (
            "a head a byte at a time",
            drip(fields, b"v"),
            Set::Head,
            WHOLE,
            0,
            true,
        ),
        (
            "an interim response",
            send(b"HTTP/1.1 100 x\r\n\r\n".to_vec()),
            Set::Head,
            WHOLE,
            0,
            true,
        ),
        (
            "interim responses a byte at a time",
            drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
            Set::Head,
            WHOLE,
            0,
            false,
        ),
        (
            "no content",
            send(head.clone()),
            Set::Stall,
            WHOLE,
            0,
            false,
        ),
        (
            "ten bytes",
            send(with(&CONTENT[..10])),
            Set::Stall,
            WHOLE,
            10,
            false,
        ),
        (
            "all but one",
            send(with(&CONTENT[..35])),
            Set::Stall,
            WHOLE,
            35,
            false,
        ),
        (
            "nothing behind what is skipped",
            send(with(&CONTENT[..5])),
            Set::Stall,
            range(5, 5),
            0,
            false,
        ),
        (
            "nothing of what is skipped",
            send(head.clone()),
            Set::Stall,
            range(5, 5),
            0,
            false,
        ),
        ("no chunk", send(framed(b"")), Set::Stall, WHOLE, 0, false),
        (
            "half a size",
            send(framed(b"2")),
            Set::Stall,
            WHOLE,
            0,
            false,
        ),
        (
            "half a chunk",
            send(framed(b"24\r\n0123")),
            Set::Stall,
            WHOLE,
            4,
            false,
        ),
        (
            "no last chunk",
            send(framed(b"5\r\n01234\r\n")),
            Set::Stall,
            WHOLE,
            5,
            false,
        ),
        (
            "half a trailer",
            send(framed(b"5\r\n01234\r\n0\r\nX-")),
            Set::Stall,
            WHOLE,
            5,
            false,
        ),
        (
            "no end of the connection",
            send(response("HTTP/1.1 200 OK", &[], &CONTENT[..7])),
            Set::Stall,
            WHOLE,
            7,
            false,
        ),
        (
            "no answer at all",
            vec![Step::Hold],
            Set::Whole,
            WHOLE,
            0,
            true,
        ),
        (
            "a slow head",
            drip(fields, b"v"),
            Set::Whole,
            WHOLE,
            0,
            true,
        ),
        (
            "no content in all",
            send(head.clone()),
            Set::Whole,
            WHOLE,
            0,
            false,
        ),
        // Bytes keep coming, so that nothing but the whole operation's deadline can end it.
        (
            "slow content",
            drip(&long, CONTENT),
            Set::Whole,
            WHOLE,
            36,
            false,
        ),
        (
            "slow content that is skipped",
            drip(&long, CONTENT),
            Set::Whole,
            range(90_000, 5),
            0,
            false,
        ),
        (
            "a slow size line",
            drip(&framed(b"5;"), b"v"),
            Set::Whole,
            WHOLE,
            0,
            false,
        ),
    ];
    let mut cases = Vec::new();
    for (name, script, set, ask, content_max, length_too) in rows {
        let length = length_too.then_some(Doing::Length);
        for doing in [Doing::Range(ask), Doing::Writer(ask)]
            .into_iter()
            .chain(length)
        {
            let script = script.clone();
            let name = format!("{name}, {doing:?}");
            let case_name = name.clone();
            let case = move || {
                let fail = |text: String| vec![format!("{case_name}: {text}")];
                let Some((result, written, took)) = run_call(&script, set.timeouts(AFTER), doing)
                else {
                    return fail("the deadline passed and the client still waits".to_owned());
                };
                // Slow content is longer than the content of the tables, and repeats it.
                let endless: Vec<u8> = CONTENT.iter().copied().cycle().take(99_999).collect();
                let is_right = if name.starts_with("slow content,") {
                    endless.starts_with(&written)
                } else {
                    written.len() <= content_max && right(ask).starts_with(&written)
                };
                match result {
                    Err(PeerError::TimedOut(deadline)) if deadline == set.deadline() => {
                        if !is_right {
                            return fail(format!("wrong bytes: {written:?}"));
                        }
                        if took < AFTER || took > AFTER + SLACK {
                            return fail(format!("gave up after {took:?}, not {AFTER:?}"));
                        }
                        Vec::new()
                    }
                    other => fail(format!("expected {:?}, got {other:?}", set.deadline())),
                }
            };
            cases.push((format!("{} {set:?}", cases.len()), Box::new(case) as Case));
        }
    }
    run_cases(cases);
}

/// A slow peer that never rests for as long as the stall deadline is waited for.
#[test]
fn that_are_renewed() {
    let head = response("HTTP/1.1 200 OK", &["Content-Length: 36"], b"");
    let stall = Duration::from_secs(2);
    let mut script = vec![Step::Send(head)];
    for piece in CONTENT.chunks(1) {
        script.extend([
            Step::Send(piece.to_vec()),
            Step::Wait(Duration::from_millis(80)),
        ]);
    }
    run_cases([Doing::Range(WHOLE), Doing::Writer(WHOLE)].map(|doing| {
        let script = script.clone();
        let case = move || match run_call(&script, Set::Stall.timeouts(stall), doing) {
            Some((Ok(bytes), _, took)) if bytes == CONTENT && took > stall => Vec::new(),
            // Content that came faster than the deadline would show nothing.
            other => vec![format!(
                "{doing:?}: expected all, later than {stall:?}, got {other:?}"
            )],
        };
        (format!("{doing:?}"), Box::new(case) as Case)
    }));
}

/// A verdict that is known is not waited for: the deadline of what follows it does not count.
#[test]
fn that_do_not_matter() {
    let unauthorized = response("HTTP/1.1 401 No", &["Content-Length: 100"], b"");
    let script = [Step::Send(unauthorized), Step::Hold];
    for doing in [
        Doing::Range(WHOLE),
        Doing::Writer(range(5, 5)),
        Doing::Length,
    ] {
        let timeouts = Set::Stall.timeouts(Duration::from_secs(60));
        let (result, ..) = run_call(&script, timeouts, doing).unwrap();
        assert!(
            matches!(result, Err(PeerError::Unauthorized)),
            "{doing:?}: {result:?}"
        );
    }
    let whole = response("HTTP/1.1 200 OK", &["Content-Length: 36"], b"");
    let script = [Step::Send(whole), Step::Hold];
    let timeouts = Set::Stall.timeouts(Duration::from_secs(60));
    let (result, ..) = run_call(&script, timeouts, Doing::Length).unwrap();
    assert!(
        result.is_ok(),
        "a length is known by the end of the head: {result:?}"
    );
}

/// When the rows' deadlines pass.
const AFTER: Duration = Duration::from_millis(200);
/// How late they may be noticed, on a machine that has much else to do; sooner than the deadlines
/// that a client has by itself.
const SLACK: Duration = Duration::from_secs(10);
/// When a call counts as hanging.
const PATIENCE: Duration = Duration::from_secs(60);
