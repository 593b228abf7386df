//! Where pages come from: a server of fixed files, with and without TLS.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::Arc;
use std::thread;

use crate::real::harness::{Scratch, program, succeed};

/// Media type and bytes of each path.
pub(super) type Files = BTreeMap<&'static str, (&'static str, Vec<u8>)>;

/// A server of fixed files on loopback, until the process ends.
pub(super) fn serve(files: Files) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let files = Arc::new(files);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, files) = (stream.unwrap(), Arc::clone(&files));
            // A browser opens connections that it may never use.
            thread::spawn(move || answer(stream, &files));
        }
    });
    port
}

/// Answers one request. A browser that hangs up is no failure.
fn answer(stream: TcpStream, files: &Files) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split([' ', '?']).nth(1)?.to_owned();
    while line.trim_end() != "" {
        line.clear();
        reader.read_line(&mut line).ok()?;
    }
    let mut stream = stream;
    let (status, (media_type, content)) = match files.get(path.as_str()) {
        Some((media_type, content)) => ("200 OK", (*media_type, &content[..])),
        None => ("404 Not Found", ("text/plain", &b"no such file\n"[..])),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        content.len()
    )
    .ok()?;
    stream.write_all(content).ok()
}

/// A server of one page over TLS, with a certificate that nobody vouches for.
pub(super) struct SecureSite {
    child: Child,
    _stdout: BufReader<ChildStdout>,
    _scratch: Scratch,
    pub(super) port: u16,
}

const SECURE_SERVER: &str = "
import http.server, ssl, sys
certificate, key, page = sys.argv[1:]
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        content = open(page, 'rb').read()
        self.send_response(200)
        self.send_header('Content-Type', 'text/html')
        self.send_header('Content-Length', str(len(content)))
        self.end_headers()
        self.wfile.write(content)
    def log_message(self, *arguments):
        pass
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print(server.server_address[1], flush=True)
server.serve_forever()
";

impl SecureSite {
    /// `None`, loudly, where openssl or python3 is missing.
    pub(super) fn start(page: &[u8]) -> Option<Self> {
        let (mut openssl, mut python) = (program("openssl")?, program("python3")?);
        let scratch = Scratch::new();
        let (certificate, key) = (scratch.join("certificate"), scratch.join("key"));
        openssl
            .args([
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            ])
            .args(["-subj", "/CN=page.test", "-out"]);
        succeed(openssl.arg(&certificate).arg("-keyout").arg(&key));
        python.args(["-c", SECURE_SERVER]).arg(certificate).arg(key);
        python.arg(scratch.write("page.html", page));
        let mut child = python.stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut port = String::new();
        stdout.read_line(&mut port).unwrap();
        Some(Self {
            child,
            _stdout: stdout,
            _scratch: scratch,
            port: port.trim().parse().unwrap(),
        })
    }
}

impl Drop for SecureSite {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
