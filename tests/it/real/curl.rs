//! curl: whole, every kind of range, resume, HEAD, reuse of a connection, conditions.

use std::fs;
use std::process::Command;

use super::harness::{Scratch, Share, assert_same, noise, program, succeed};

const HANDLE: &str = "Ärger & Spaß/01 100%.bin";

/// A shared folder with one file in it, and curl.
struct Setting {
    scratch: Scratch,
    share: Share,
    content: Vec<u8>,
}

impl Setting {
    fn new() -> Option<Self> {
        program("curl")?;
        let scratch = Scratch::new();
        let content = noise(1, 300_007);
        scratch.write(&format!("shared/{HANDLE}"), &content);
        let share = Share::of([scratch.join("shared")])?;
        Some(Self {
            scratch,
            share,
            content,
        })
    }

    /// curl with the token, to end with URLs and their options; status on standard error.
    fn curl(&self) -> Command {
        let mut curl = Command::new("curl");
        curl.args(["--disable", "--silent", "--show-error", "--max-time", "60"]);
        curl.args(["--write-out", "%{stderr}%{http_code} %{num_connects}\n"]);
        curl.args(["--header", &self.share.authorization()]);
        curl
    }

    fn url(&self) -> String {
        self.share.url(HANDLE)
    }
}

#[test]
fn fetches_the_whole() {
    let Some(setting) = Setting::new() else {
        return;
    };
    for version in ["--http1.1", "--http1.0"] {
        let ran = succeed(setting.curl().args([version, &setting.url()]));
        assert_eq!(ran.stderr, "200 1\n");
        assert_same(&ran.stdout, &setting.content);
    }
}

#[test]
fn fetches_the_whole_through_an_absolute_target() {
    let Some(setting) = Setting::new() else {
        return;
    };
    // To its proxy, curl names the whole URL in the request line.
    let proxy = format!("http://{}", setting.share.address);
    let ran = succeed(
        setting
            .curl()
            .args(["--noproxy", "", "--proxy", &proxy, &setting.url()]),
    );
    assert_eq!(ran.stderr, "200 1\n");
    assert_same(&ran.stdout, &setting.content);
}

#[test]
fn fetches_ranges() {
    let Some(setting) = Setting::new() else {
        return;
    };
    let content = &setting.content;
    let end = content.len();
    let past_end = format!("{}-999999999", end - 1);
    for (range, expected) in [
        ("0-0", 0..1),
        ("0-99", 0..100),
        ("100-65636", 100..65_637),
        ("5000-", 5_000..end),
        (past_end.as_str(), end - 1..end),
        ("-1", end - 1..end),
        ("-4096", end - 4_096..end),
        ("-999999999", 0..end),
    ] {
        let ran = succeed(setting.curl().args(["--range", range, &setting.url()]));
        assert_eq!(ran.stderr, "206 1\n", "{range}");
        assert_same(&ran.stdout, &content[expected]);
    }
    let beyond = end.to_string() + "-";
    let ran = succeed(setting.curl().args(["--range", &beyond, &setting.url()]));
    assert_eq!(ran.stderr, "416 1\n");
}

#[test]
fn fetches_several_ranges() {
    let Some(setting) = Setting::new() else {
        return;
    };
    let url = setting.url();
    let ran = succeed(
        setting
            .curl()
            .args(["--include", "--range", "0-9,1000-1099,-5", &url]),
    );
    assert_eq!(ran.stderr, "206 1\n");

    let end = setting.content.len();
    let parts = parts(&ran.stdout);
    let expected = [0..10, 1_000..1_100, end - 5..end];
    assert_eq!(parts.len(), expected.len());
    for ((content_range, part), expected) in parts.iter().zip(expected) {
        let wanted = format!("bytes {}-{}/{end}", expected.start, expected.end - 1);
        assert_eq!(*content_range, wanted);
        assert_same(part, &setting.content[expected]);
    }
}

/// Takes a multipart answer apart, by its boundary: `Content-Range` and content of each part.
fn parts(answer: &[u8]) -> Vec<(String, &[u8])> {
    let (head, mut rest) = split(answer, b"\r\n\r\n");
    let content_type = field(head, "content-type");
    let boundary = content_type
        .strip_prefix("multipart/byteranges; boundary=")
        .unwrap();
    let delimiter = format!("\r\n--{}", boundary.trim_matches('"'));

    // The first delimiter may do without the line break before it.
    if !rest.starts_with(b"\r\n") {
        assert!(rest.starts_with(&delimiter.as_bytes()[2..]));
        rest = &rest[delimiter.len() - 2..];
    } else {
        rest = rest.strip_prefix(delimiter.as_bytes()).unwrap();
    }
    let mut parts = Vec::new();
    while !rest.starts_with(b"--") {
        let (head, after) = split(rest, b"\r\n\r\n");
        let (content, after) = split(after, delimiter.as_bytes());
        parts.push((field(head, "content-range"), content));
        rest = after;
    }
    assert!(
        matches!(rest, b"--" | b"--\r\n"),
        "after the last delimiter: {rest:?}"
    );
    parts
}

fn split<'a>(bytes: &'a [u8], separator: &[u8]) -> (&'a [u8], &'a [u8]) {
    let found = bytes
        .windows(separator.len())
        .position(|window| window == separator);
    let at = found.unwrap_or_else(|| panic!("no {separator:?}"));
    (&bytes[..at], &bytes[at + separator.len()..])
}

/// The value of a field in a header section.
fn field(head: &[u8], name: &str) -> String {
    let head = std::str::from_utf8(head).unwrap();
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let found = fields.find(|(found, _)| found.eq_ignore_ascii_case(name));
    found
        .unwrap_or_else(|| panic!("no {name} in {head}"))
        .1
        .trim()
        .to_owned()
}

#[test]
fn resumes_a_file() {
    let Some(setting) = Setting::new() else {
        return;
    };
    for held in [1, 65_536, setting.content.len() - 1] {
        let file = setting.scratch.write("partial", &setting.content[..held]);
        let mut curl = setting.curl();
        let ran = succeed(curl.args(["-C", "-", "-o"]).arg(&file).arg(setting.url()));
        assert_eq!(ran.stderr, "206 1\n");
        assert_same(&fs::read(&file).unwrap(), &setting.content);
    }
}

#[test]
fn asks_for_the_head() {
    let Some(setting) = Setting::new() else {
        return;
    };
    let ran = succeed(setting.curl().args(["-I", &setting.url()]));
    assert_eq!(ran.stderr, "200 1\n");
    let (head, rest) = split(&ran.stdout, b"\r\n\r\n");
    assert_eq!(rest, b"");
    assert!(head.starts_with(b"HTTP/1.1 200 "));
    assert_eq!(
        field(head, "content-length"),
        setting.content.len().to_string()
    );
    assert_eq!(field(head, "accept-ranges"), "bytes");
    assert!(field(head, "etag").starts_with('"'));
    assert!(field(head, "last-modified").ends_with(" GMT"));
}

#[test]
fn keeps_one_connection_for_several_urls() {
    let Some(setting) = Setting::new() else {
        return;
    };
    let files = ["a", "b", "c", "d"].map(|name| setting.scratch.join(name));
    let mut curl = setting.curl();
    for file in &files {
        curl.arg("-o").arg(file).arg(setting.url());
    }
    let ran = succeed(&mut curl);
    assert_eq!(
        ran.stderr, "200 1\n200 0\n200 0\n200 0\n",
        "status and new connections of each"
    );
    for file in files {
        assert_same(&fs::read(file).unwrap(), &setting.content);
    }
}

#[test]
fn asks_whether_it_changed() {
    let Some(setting) = Setting::new() else {
        return;
    };
    let [tag, copy] = ["tag", "copy"].map(|name| setting.scratch.join(name));
    succeed(
        setting
            .curl()
            .arg("--etag-save")
            .arg(&tag)
            .arg("-o")
            .arg(&copy)
            .arg(setting.url()),
    );
    assert_same(&fs::read(&copy).unwrap(), &setting.content);

    let unchanged = succeed(
        setting
            .curl()
            .arg("--etag-compare")
            .arg(&tag)
            .arg(setting.url()),
    );
    assert_eq!(
        (unchanged.stderr.as_str(), unchanged.stdout.len()),
        ("304 1\n", 0)
    );
    // By date: curl sends the modification time of the copy, which is later than the original's.
    let unchanged = succeed(
        setting
            .curl()
            .arg("--time-cond")
            .arg(&copy)
            .arg(setting.url()),
    );
    assert_eq!(
        (unchanged.stderr.as_str(), unchanged.stdout.len()),
        ("304 1\n", 0)
    );

    let other = noise(2, 1_000);
    setting.scratch.write(&format!("shared/{HANDLE}"), &other);
    let changed = succeed(
        setting
            .curl()
            .arg("--etag-compare")
            .arg(&tag)
            .arg(setting.url()),
    );
    assert_eq!(changed.stderr, "200 1\n");
    assert_same(&changed.stdout, &other);
}

#[test]
fn strangers_and_paths_get_nothing() {
    let Some(setting) = Setting::new() else {
        return;
    };
    let scratch = &setting.scratch;
    scratch.write("secret", b"not shared");
    let track = format!("http://{}/track/", setting.share.address);
    let stranger = || {
        let mut curl = Command::new("curl");
        curl.args(["--disable", "--silent", "--max-time", "60", "--path-as-is"]);
        curl.args(["--write-out", "%{stderr}%{http_code}\n"]);
        curl
    };
    for path in ["library", "../secret", "nothing"] {
        assert_eq!(
            succeed(stranger().arg(format!("{track}{path}"))).stderr,
            "401\n",
            "{path}"
        );
        let mut wrong = stranger();
        wrong
            .args(["--oauth2-bearer", "wrong"])
            .arg(format!("{track}{path}"));
        assert_eq!(succeed(&mut wrong).stderr, "401\n", "{path}");
    }
    let absolute = scratch.join("secret").to_string_lossy().replace('/', "%2F");
    let around = [
        "../secret",
        "%2e%2e%2fsecret",
        "..%2Fsecret",
        "x/../../secret",
        &absolute,
    ];
    for path in around {
        let mut curl = stranger();
        curl.args(["--oauth2-bearer", &setting.share.token])
            .arg(format!("{track}{path}"));
        assert_eq!(succeed(&mut curl).stderr, "404\n", "{path}");
    }
}
