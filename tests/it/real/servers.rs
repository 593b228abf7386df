//! Our client with servers that were not written for it: byte-exact, or a typed error.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use cranpose_services::peer::{
    ByteSource, BytesSource, FileSource, PeerClient, PeerError, PeerServer, SourceResolver,
};

use crate::capability::Capability;
use crate::fetch_chaos::{BadLink, stubborn};

use super::harness::{Scratch, assert_same, noise, program, succeed};

/// How long a server may take to listen.
const START_MAX: Duration = Duration::from_secs(60);
const HANDLE: &str = "a song.bin";

/// A server as a process, which ends with the value.
struct Server {
    child: Child,
    base: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        // After a failed test nobody asks how it ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts a server that has to be told its port, and waits until it listens there.
    fn start(command: impl Fn(SocketAddr) -> Command) -> Self {
        let started = Instant::now();
        loop {
            // Free now; where another process takes it first, the server ends and another is found.
            let listener = TcpListener::bind((own_loopback(), 0)).unwrap();
            let address = listener.local_addr().unwrap();
            drop(listener);
            let mut command = command(address);
            command.stdin(Stdio::null()).stdout(Stdio::null());
            let child = command.spawn().unwrap();
            let mut server = Self {
                child,
                base: address.to_string(),
            };
            while server.child.try_wait().unwrap().is_none() {
                if TcpStream::connect(&server.base).is_ok() {
                    return server;
                }
                assert!(started.elapsed() < START_MAX, "{command:?} does not listen");
                std::thread::sleep(Duration::from_millis(10));
            }
            assert!(started.elapsed() < START_MAX, "{command:?} ends at once");
        }
    }
}

/// An address of this machine alone that no other test uses: a port on the common one may be taken
/// between being found free and being listened on, and then another test's server would answer.
fn own_loopback() -> Ipv4Addr {
    static NUMBER: AtomicU8 = AtomicU8::new(1);
    if !Capability::LoopbackNetwork.is_here() {
        // Elsewhere there is only the common one.
        return Ipv4Addr::LOCALHOST;
    }
    let [low, high, ..] = std::process::id().to_le_bytes();
    Ipv4Addr::new(
        127,
        high | 0x80,
        low,
        NUMBER.fetch_add(1, Ordering::Relaxed),
    )
}

/// A folder whose `track/HANDLE` is what servers serve.
fn site(len: usize) -> (Scratch, Vec<u8>) {
    let (scratch, content) = (Scratch::new(), noise(8, len));
    scratch.write(&format!("track/{HANDLE}"), &content);
    (scratch, content)
}

/// What a server says of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Validator {
    /// A strong entity-tag, always.
    Strong,
    /// None, or a weak one for what was written a moment ago.
    Doubtful,
}

/// Whole, in ranges, through a reader, and over a link that breaks.
fn check(base: &str, content: &[u8], validator: Validator) {
    let client = PeerClient::builder(base, "secret").build().unwrap();
    let end = content.len();
    let total = Some(end as u64);
    assert_eq!(client.content_length(HANDLE).unwrap(), total);
    for range in [
        0..end,
        0..1,
        1..2,
        4_095..70_000,
        end - 1..end,
        1_000_000..end,
    ] {
        let len = (range.end < end).then_some(range.len() as u64);
        let fetched = client.fetch_range(HANDLE, range.start as u64, len).unwrap();
        assert_eq!(fetched.total_len, total, "{range:?}");
        assert_same(&fetched.bytes, &content[range]);
    }
    let mut written = Vec::new();
    client
        .fetch_to_writer(HANDLE, 5, None, &mut written)
        .unwrap();
    assert_same(&written, &content[5..]);

    let beyond = client.fetch_range(HANDLE, end as u64 + 1, Some(10));
    assert!(
        matches!(beyond, Err(PeerError::Status(416) | PeerError::Protocol(_))),
        "{:?}",
        beyond.err()
    );
    assert!(matches!(
        client.content_length("nothing"),
        Err(PeerError::NotFound)
    ));

    let mut reader = client.reader(HANDLE).unwrap();
    for at in [end - 128, 3, end / 2, end / 2 + 100_000, 0] {
        let mut some = [0; 100];
        reader.seek(SeekFrom::Start(at as u64)).unwrap();
        reader.read_exact(&mut some).unwrap();
        assert_same(&some, &content[at..at + 100]);
    }
    check_broken(base, content, validator);
}

/// Whole over a link that breaks, or an error where nothing proves that the rest is of the same.
fn check_broken(base: &str, content: &[u8], validator: Validator) {
    for seed in 0..2 {
        let link = BadLink::before(base.parse().unwrap(), seed);
        let client = link.client(stubborn());
        let mut written = Vec::new();
        match client.fetch_to_writer(HANDLE, 0, None, &mut written) {
            Ok(_) => assert_same(&written, content),
            Err(PeerError::Truncated { .. }) if validator == Validator::Doubtful => {
                assert!(content.starts_with(&written), "wrong bytes");
            }
            Err(error) => panic!("seed {seed}: {error:?}"),
        }
    }
}

/// What has no length, and ends with its framing.
fn check_stream(base: &str, content: &[u8]) {
    let client = PeerClient::builder(base, "secret").build().unwrap();
    let fetched = client.fetch_range("stream", 0, None).unwrap();
    assert_same(&fetched.bytes, content);
    let mut written = Vec::new();
    client
        .fetch_to_writer("stream", 0, None, &mut written)
        .unwrap();
    assert_same(&written, content);
    let mut read = Vec::new();
    let mut reader = client.reader("stream").unwrap();
    reader.read_to_end(&mut read).unwrap();
    assert_same(&read, content);
}

#[test]
fn python() {
    // It knows no ranges, and speaks HTTP/1.0.
    let Some(mut python) = program("python3") else {
        return;
    };
    let (scratch, content) = site(3_000_001);
    python.args(["-u", "-m", "http.server", "--bind", "127.0.0.1", "0"]);
    python
        .current_dir(scratch.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = python.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let port = line
        .split(' ')
        .skip_while(|word| *word != "port")
        .nth(1)
        .unwrap();
    let server = Server {
        child,
        base: format!("127.0.0.1:{port}"),
    };
    check(&server.base, &content, Validator::Doubtful);
}

/// nginx with what goes into its `server`, and before that into its `http`.
fn nginx(scratch: &Path, http: &str, server: &str) -> Option<Server> {
    program("nginx")?;
    let folder = scratch.display();
    Some(Server::start(|address| {
        let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {folder}/temp-{name};\n"))
            .concat();
        let configuration = format!(
            "daemon off; master_process off; pid {folder}/pid; error_log {folder}/errors;\n\
             events {{}}\n\
             http {{ access_log off; {paths} {http}\n\
             server {{ listen {address}; {server} }} }}\n"
        );
        fs::write(scratch.join("nginx.conf"), configuration).unwrap();
        let mut nginx = Command::new("nginx");
        nginx
            .arg("-e")
            .arg(scratch.join("errors"))
            .arg("-p")
            .arg(scratch);
        nginx.arg("-c").arg(scratch.join("nginx.conf"));
        nginx
    }))
}

#[test]
fn nginx_with_files() {
    let (scratch, content) = site(3_000_001);
    let root = format!("root {};", scratch.path().display());
    let zip = "gzip on; gzip_types *; gzip_min_length 0;";
    let Some(server) = nginx(scratch.path(), zip, &root) else {
        return;
    };
    check(&server.base, &content, Validator::Strong);
}

/// A source that does not tell its length.
struct Stream(BytesSource);

impl ByteSource for Stream {
    fn len(&self) -> Option<u64> {
        None
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(offset, buf)
    }
}

/// One of our own servers, to stand behind another.
fn ours(scratch: &Scratch) -> PeerServer {
    let folder = scratch.path().join("track");
    let resolver: SourceResolver = Arc::new(move |handle| {
        if handle == "stream" {
            let content = fs::read(folder.join(HANDLE)).ok()?;
            let stream = Stream(BytesSource::new(content));
            return Some(Arc::new(stream) as Arc<dyn ByteSource>);
        }
        let source = FileSource::open(folder.join(handle)).ok()?;
        Some(Arc::new(source) as Arc<dyn ByteSource>)
    });
    PeerServer::start("127.0.0.1:0", "secret", resolver).unwrap()
}

#[test]
fn nginx_in_front_of_ours() {
    let (scratch, content) = site(3_000_001);
    let ours = ours(&scratch);
    for version in ["1.0", "1.1"] {
        let pass = format!(
            "location / {{ proxy_http_version {version}; proxy_buffering off; \
             proxy_pass http://{}; }}",
            ours.local_addr()
        );
        let Some(server) = nginx(scratch.path(), "", &pass) else {
            return;
        };
        check(&server.base, &content, Validator::Strong);
        check_stream(&server.base, &content);
    }
}

#[test]
fn nginx_with_a_cache_of_slices_in_front_of_ours() {
    let (scratch, content) = site(3_000_001);
    let ours = ours(&scratch);
    let cache = format!(
        "proxy_cache_path {}/cache keys_zone=slices:1m;",
        scratch.path().display()
    );
    // Ours says `private`, which such a cache has to be told to overlook.
    let slices = format!(
        "location / {{ slice 256k; proxy_cache slices; proxy_cache_key $uri$slice_range; \
         proxy_set_header Range $slice_range; proxy_http_version 1.1; \
         proxy_ignore_headers Cache-Control; proxy_cache_valid 200 206 1h; \
         proxy_pass http://{}; }}",
        ours.local_addr()
    );
    let Some(server) = nginx(scratch.path(), &cache, &slices) else {
        return;
    };
    // The second time from the cache.
    for _ in 0..2 {
        check(&server.base, &content, Validator::Strong);
    }
}

#[test]
fn lighttpd() {
    let Some(_) = program("lighttpd") else { return };
    let (scratch, content) = site(3_000_001);
    let server = Server::start(|address| {
        let configuration = format!(
            "server.document-root = \"{}\"\nserver.bind = \"{}\"\nserver.port = {}\n\
             mimetype.assign = ( \"\" => \"application/octet-stream\" )\n",
            scratch.path().display(),
            address.ip(),
            address.port()
        );
        let path = scratch.write("lighttpd.conf", configuration.as_bytes());
        let mut lighttpd = Command::new("lighttpd");
        lighttpd.arg("-D").arg("-f").arg(path);
        lighttpd
    });
    check(&server.base, &content, Validator::Strong);
}

/// Apache in one process, with what goes into its configuration besides the address.
fn apache(scratch: &Scratch, modules: &[&str], configuration: &str) -> Option<Server> {
    program("apache2")?;
    let folder = scratch.path().display();
    // Where Debian puts them.
    let modules: String = [&["mpm_event", "authz_core"], modules]
        .concat()
        .iter()
        .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
        .collect();
    Some(Server::start(|address| {
        let configuration = format!(
            "ServerRoot {folder}\nServerName localhost\nListen {address}\nPidFile {folder}/pid\n\
             ErrorLog {folder}/errors\nDefaultRuntimeDir {folder}\nUser www-data\nGroup www-data\n\
             {modules}\n{configuration}\n"
        );
        let path = scratch.write("apache.conf", configuration.as_bytes());
        let mut apache = Command::new("apache2");
        // One process, which ends when it is killed and leaves no children.
        apache.arg("-X").arg("-f").arg(path);
        apache
    }))
}

#[test]
fn apache_with_files() {
    let (scratch, content) = site(3_000_001);
    let configuration = format!(
        "DocumentRoot {}\n<Directory />\nRequire all granted\n</Directory>\n\
         SetOutputFilter DEFLATE\n",
        scratch.path().display()
    );
    let modules = ["filter", "deflate"];
    let Some(server) = apache(&scratch, &modules, &configuration) else {
        return;
    };
    check(&server.base, &content, Validator::Doubtful);
}

#[test]
fn apache_in_front_of_ours() {
    let (scratch, content) = site(3_000_001);
    let ours = ours(&scratch);
    let configuration = format!(
        "ProxyPass / http://{}/ nocanon\nAllowEncodedSlashes NoDecode\n",
        ours.local_addr()
    );
    let modules = ["proxy", "proxy_http"];
    let Some(server) = apache(&scratch, &modules, &configuration) else {
        return;
    };
    check(&server.base, &content, Validator::Strong);
    check_stream(&server.base, &content);
}

#[test]
fn caddy_with_files() {
    let Some(_) = program("caddy") else { return };
    let (scratch, content) = site(3_000_001);
    let server = Server::start(|address| {
        let mut caddy = Command::new("caddy");
        caddy.arg("file-server").arg("--root").arg(scratch.path());
        caddy.arg("--listen").arg(address.to_string());
        // What it would keep in the home folder goes away with the rest.
        caddy.env("HOME", scratch.path()).stderr(Stdio::null());
        caddy
    });
    check(&server.base, &content, Validator::Strong);
}

#[test]
fn caddy_in_front_of_ours() {
    let Some(_) = program("caddy") else { return };
    let (scratch, content) = site(3_000_001);
    let ours = ours(&scratch);
    let server = Server::start(|address| {
        // In JSON, since the admin endpoint has a fixed port unless it is turned off.
        let upstream = ours.local_addr();
        let configuration = format!(
            r#"{{"admin": {{"disabled": true}}, "apps": {{"http": {{"servers": {{"ours": {{
                "listen": ["{address}"], "automatic_https": {{"disable": true}},
                "routes": [{{"handle": [
                    {{"handler": "encode", "encodings": {{"gzip": {{}}}}, "prefer": ["gzip"]}},
                    {{"handler": "reverse_proxy", "upstreams": [{{"dial": "{upstream}"}}]}}
                ]}}]
            }}}}}}}}}}"#
        );
        let path = scratch.write("caddy.json", configuration.as_bytes());
        let mut caddy = Command::new("caddy");
        caddy.arg("run").arg("--config").arg(path);
        caddy.env("HOME", scratch.path()).stderr(Stdio::null());
        caddy
    });
    check(&server.base, &content, Validator::Strong);
    check_stream(&server.base, &content);
}

#[test]
fn go() {
    let Some(mut go) = program("go") else { return };
    let (scratch, content) = site(3_000_001);
    let built = scratch.join(&format!("server{}", std::env::consts::EXE_SUFFIX));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("it/real/servers/server.go");
    // Its own file alone, and nothing from a network.
    go.args(["build", "-o"]).arg(&built).arg(source);
    go.env("GO111MODULE", "off").env("GOPROXY", "off");
    succeed(&mut go);
    // Strong validators, then none: what it cannot prove, the client does not resume.
    for (validators, expected) in [("etag", Validator::Strong), ("none", Validator::Doubtful)] {
        let server = Server::start(|address| {
            let mut server = Command::new(&built);
            server.arg(address.to_string()).arg(scratch.path());
            server.arg(validators);
            server
        });
        check(&server.base, &content, expected);
    }
}
