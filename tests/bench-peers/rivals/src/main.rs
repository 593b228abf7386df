//! What people use today, each in the few lines that its own documentation asks for.
//!
//! `serve-axum FILE`, `serve-tiny FILE`: print a port, and serve the file until standard input ends.
//! `fetch-ureq …`, `fetch-reqwest …`: the words of the harness's own `fetch`.

use axum::serve::ListenerExt as _;
use std::{
    error::Error,
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    process::ExitCode,
    sync::Arc,
    thread,
};

/// What every side here is asked to fetch, and where to.
struct Fetch<'a> {
    url: &'a str,
    /// First and last position of each request; none: all there is, in one request.
    ranges: Vec<(u64, u64)>,
    out: Box<dyn Write>,
}

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

impl<'a> Fetch<'a> {
    /// `URL OUT`, or `URL OUT COUNT BYTES PLACES`: as `bench-peers fetch` takes them.
    fn parse(words: &'a [String]) -> Outcome<Self> {
        let (url, out, ranges) = match words {
            [url, out] => (url, out, Vec::new()),
            [url, out, count, bytes, places] => {
                let (count, bytes, places): (u64, u64, u64) =
                    (count.parse()?, bytes.parse()?, places.parse()?);
                let start = |number: u64| (number + 1) * 7919 % places * bytes;
                let ranges = (0..count).map(|number| (start(number), start(number) + bytes - 1));
                (url, out, ranges.collect())
            }
            _ => return Err("URL OUT [COUNT BYTES PLACES]".into()),
        };
        let out: Box<dyn Write> = match out.as_str() {
            "-" => Box::new(io::sink()),
            path => Box::new(File::create(path)?),
        };
        Ok(Self { url, ranges, out })
    }

    /// Has each request made, and its content taken whole.
    fn run(
        mut self,
        mut get: impl FnMut(&str, Option<&str>, &mut dyn Write) -> Outcome<u64>,
    ) -> Outcome {
        if self.ranges.is_empty() {
            get(self.url, None, &mut self.out)?;
        }
        for (first, last) in self.ranges {
            let range = format!("bytes={first}-{last}");
            let received = get(self.url, Some(&range), &mut self.out)?;
            if received != last - first + 1 {
                return Err(format!("{received} bytes came for {range}").into());
            }
        }
        Ok(self.out.flush()?)
    }
}

fn fetch_ureq(words: &[String]) -> Outcome {
    let agent = ureq::Agent::new_with_defaults();
    Fetch::parse(words)?.run(|url, range, mut out| {
        let mut request = agent.get(url);
        if let Some(range) = range {
            request = request.header("Range", range);
        }
        let mut answer = request.call()?;
        Ok(io::copy(&mut answer.body_mut().as_reader(), &mut out)?)
    })
}

fn fetch_reqwest(words: &[String]) -> Outcome {
    let client = reqwest::blocking::Client::new();
    Fetch::parse(words)?.run(|url, range, mut out| {
        let mut request = client.get(url);
        if let Some(range) = range {
            request = request.header("Range", range);
        }
        let mut answer = request.send()?.error_for_status()?;
        Ok(answer.copy_to(&mut out)?)
    })
}

fn serve_axum(path: &str) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let file = tower_http::services::ServeFile::new(path);
    let app = axum::Router::new().route_service("/track/bench", file);
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?.port());
        // Without it, each small answer waits for the acknowledgement of its own head.
        let listener = listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        axum::serve(listener, app).await?;
        Ok(())
    })
}

fn serve_tiny(path: &str) -> Outcome {
    let server = tiny_http::Server::http("127.0.0.1:0").map_err(|error| error.to_string())?;
    let server = Arc::new(server);
    let port = server.server_addr().to_ip().ok_or("no port")?.port();
    println!("{port}");
    let mut workers = Vec::new();
    for _ in 0..8 {
        let (server, path) = (Arc::clone(&server), path.to_owned());
        workers.push(thread::spawn(move || {
            while let Ok(request) = server.recv() {
                // A client that has gone is no concern of the next one.
                let _ = answer_tiny(request, &path);
            }
        }));
    }
    for worker in workers {
        worker.join().map_err(|_| "a worker panicked")?;
    }
    Ok(())
}

fn answer_tiny(request: tiny_http::Request, path: &str) -> io::Result<()> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    let range = request
        .headers()
        .iter()
        .find(|field| field.field.equiv("Range"))
        .and_then(|field| field.value.as_str().strip_prefix("bytes=")?.split_once('-'))
        .and_then(|(first, last)| Some((first.parse().ok()?, last.parse().unwrap_or(len - 1))));
    let (first, last): (u64, u64) = range.unwrap_or((0, len - 1));
    file.seek(SeekFrom::Start(first))?;
    let content = file.take(last - first + 1);
    let content_range = format!("Content-Range: bytes {first}-{last}/{len}");
    let fields = content_range.parse().into_iter().collect();
    let status = if range.is_some() { 206 } else { 200 };
    let length = usize::try_from(last - first + 1).ok();
    let response = tiny_http::Response::new(status.into(), fields, content, length, None);
    // Otherwise large content would be chunked.
    request.respond(response.with_chunked_threshold(usize::MAX))
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match words.split_first() {
        Some((part, rest)) if part == "fetch-ureq" => fetch_ureq(rest),
        Some((part, rest)) if part == "fetch-reqwest" => fetch_reqwest(rest),
        Some((part, [path])) if part == "serve-axum" || part == "serve-tiny" => {
            let (serve, path) = match part.as_str() {
                "serve-axum" => (serve_axum as fn(&str) -> Outcome, path.clone()),
                _ => (serve_tiny as fn(&str) -> Outcome, path.clone()),
            };
            thread::spawn(move || {
                if let Err(error) = serve(&path) {
                    eprintln!("bench-rivals: {error}");
                }
                std::process::exit(1);
            });
            // Whoever started this closes it when it is no longer needed.
            let _ = io::stdin().read_to_end(&mut Vec::new());
            Ok(())
        }
        _ => Err("one of: fetch-ureq, fetch-reqwest, serve-axum, serve-tiny".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-rivals: {error}");
            ExitCode::FAILURE
        }
    }
}
