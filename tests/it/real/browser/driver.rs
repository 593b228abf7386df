//! A Chromium without a window, told what to do by chromedriver: WebDriver, which is JSON over HTTP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::real::harness::{Scratch, program};

/// Whatever a page is asked to do is done sooner, or never.
const SCRIPT_TIME_MAX: Duration = Duration::from_secs(300);

/// One at a time: each is a dozen processes.
static ONE: Mutex<()> = Mutex::new(());

/// A Chromium of one test's own, with an empty profile. It ends with the value.
pub(super) struct Browser {
    driver: Child,
    // Open as long as the process may write to it.
    _stdout: BufReader<ChildStdout>,
    address: String,
    session: String,
    _profile: Scratch,
    _one: MutexGuard<'static, ()>,
}

impl Browser {
    /// Starts it with further arguments; `None`, loudly, where it is not installed.
    pub(super) fn start(arguments: &[&str]) -> Option<Self> {
        program("chromium")?;
        program("chromedriver")?;
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let (driver, stdout, port) = start_driver();
        let profile = Scratch::new();
        let mut browser = Self {
            driver,
            _stdout: stdout,
            address: format!("127.0.0.1:{port}"),
            session: String::new(),
            _profile: profile,
            _one: one,
        };
        browser.open_session(arguments);
        Some(browser)
    }

    fn open_session(&mut self, more: &[&str]) {
        let profile = format!("--user-data-dir={}", self._profile.path().display());
        let mut arguments = vec![
            "--headless",
            // As root, which is who runs in a container, there is no sandbox.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--autoplay-policy=no-user-gesture-required",
            "--mute-audio",
            // Names for what is all on this machine: one that is not `localhost` stands for another
            // machine, as far as secure contexts and mixed content go.
            "--host-resolver-rules=MAP *.test 127.0.0.1",
            &profile,
        ];
        arguments.extend_from_slice(more);
        let capabilities = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "acceptInsecureCerts": true,
            "timeouts": { "script": SCRIPT_TIME_MAX.as_millis() as u64 },
            "goog:chromeOptions": { "args": arguments },
        }}});
        let session = self.call("POST", "/session", &capabilities);
        self.session = session["sessionId"].as_str().unwrap().to_owned();
    }

    /// Goes to a page, and waits until it is loaded.
    pub(super) fn go(&self, url: &str) {
        self.command("url", &json!({ "url": url }));
    }

    /// Runs the body of an asynchronous function in the page, which finds its argument as `given`,
    /// and gives what it returns.
    pub(super) fn run(&self, body: &str, given: Value) -> Value {
        let script = format!(
            "const [given, done] = arguments;
             (async () => {{ {body} }})().then(value => done({{ value }}),
                 error => done({{ error: String(error && error.stack || error) }}));"
        );
        let script = json!({ "script": script, "args": [given] });
        let mut result = self.command("execute/async", &script);
        assert_eq!(result["error"], Value::Null, "the page's script failed");
        result["value"].take()
    }

    /// Carries out a command of the protocol that Chromium's own tools speak.
    pub(super) fn devtools(&self, command: &str, parameters: Value) -> Value {
        let body = json!({ "cmd": command, "params": parameters });
        self.command("goog/cdp/execute", &body)
    }

    /// What it shows now, as a PNG.
    pub(super) fn picture(&self) -> Vec<u8> {
        let path = format!("/session/{}/screenshot", self.session);
        let picture = self.call("GET", &path, &Value::Null);
        from_base64(picture.as_str().unwrap())
    }

    fn command(&self, command: &str, body: &Value) -> Value {
        let path = format!("/session/{}/{command}", self.session);
        self.call("POST", &path, body)
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.exchange(method, path, body);
        let answer = answer.unwrap_or_else(|error| panic!("chromedriver, {path}: {error}"));
        assert_eq!(answer["value"]["error"], Value::Null, "{path}: {answer}");
        answer["value"].clone()
    }

    fn exchange(&self, method: &str, path: &str, body: &Value) -> std::io::Result<Value> {
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(SCRIPT_TIME_MAX + Duration::from_secs(30)))?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.address,
            body.len()
        )?;
        let mut reader = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            match line.trim_end().split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse().map_err(std::io::Error::other)?;
                }
                None if line.trim_end().is_empty() => break,
                _ => {}
            }
        }
        let mut answer = vec![0; length];
        reader.read_exact(&mut answer)?;
        serde_json::from_slice(&answer).map_err(std::io::Error::other)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser ends with its session, and takes its processes along.
        if !self.session.is_empty() {
            let _ = self.exchange(
                "DELETE",
                &format!("/session/{}", self.session),
                &Value::Null,
            );
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// Starts chromedriver on a port that it finds free. It ends at once where that is taken before it
/// listens there, so there is more than one try.
fn start_driver() -> (Child, BufReader<ChildStdout>, u16) {
    for _ in 0..10 {
        let mut driver = Command::new("chromedriver");
        driver.arg("--port=0").stdout(Stdio::piped());
        let mut driver = driver.stderr(Stdio::null()).spawn().unwrap();
        let mut stdout = BufReader::new(driver.stdout.take().unwrap());
        let mut line = String::new();
        while stdout.read_line(&mut line).unwrap() > 0 {
            if let Some((_, port)) = line.split_once("successfully on port ") {
                let port = port.trim_end().trim_end_matches('.').parse();
                return (driver, stdout, port.unwrap());
            }
            line.clear();
        }
        driver.wait().unwrap();
    }
    panic!("chromedriver does not start");
}

/// The bytes that a text in base64 stands for (RFC 4648 §4).
fn from_base64(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => panic!("no base64"),
    };
    let mut bytes = Vec::new();
    for group in text.trim_end_matches('=').as_bytes().chunks(4) {
        let mut bits = 0u32;
        for at in 0..4 {
            bits = bits << 6 | u32::from(group.get(at).map_or(0, |&byte| digit(byte)));
        }
        bytes.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    bytes
}

/// The version of the installed browser, for the record.
pub(super) fn version() -> String {
    let output = Command::new("chromium").arg("--version").output();
    output.map_or_else(
        |error| error.to_string(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
