//! What is left when HTTP is taken away: a thread that reads a place, and writes what stands there.
//!
//! No token, no limits, no deadlines, no parsing to speak of: a bound for what blocking system
//! calls can do on this machine at this time, not a server.

use std::{
    fs::File,
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::FileExt,
    sync::Arc,
    thread,
};

use crate::content::FILE_BYTES;

const BLOCK_BYTES: usize = 256 * 1024;

/// `probe FILE`: prints its port, and answers until its standard input ends.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let [path] = arguments else {
        return Err("probe FILE".to_owned());
    };
    let file = Arc::new(File::open(path).map_err(|error| format!("{path}: {error}"))?);
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    println!(
        "{}",
        listener
            .local_addr()
            .map_err(|error| error.to_string())?
            .port()
    );
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let file = Arc::clone(&file);
            thread::spawn(move || answer(stream, &file));
        }
    });
    let _ = io::stdin().read_to_end(&mut Vec::new());
    Ok(())
}

fn answer(mut stream: TcpStream, file: &File) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut request = [0; 1024];
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        let n = stream.read(&mut request)?;
        let text = String::from_utf8_lossy(&request[..n]);
        let Some((_, range)) = text.split_once("bytes=") else {
            return Ok(());
        };
        let closes = range.contains("close");
        let mut numbers = range
            .split(['-', '\r'])
            .map(|number| number.parse().unwrap_or(0u64));
        let (first, last) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        let head = format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\n\
             Content-Range: bytes {first}-{last}/{FILE_BYTES}\r\n\r\n",
            last + 1 - first,
        );
        let mut lead = head.len();
        block[..lead].copy_from_slice(head.as_bytes());
        let mut at = first;
        while at <= last {
            let room = (last + 1 - at).min((BLOCK_BYTES - lead) as u64) as usize;
            let n = file.read_at(&mut block[lead..lead + room], at)?;
            stream.write_all(&block[..lead + n])?;
            at += n as u64;
            lead = 0;
        }
        if closes {
            return Ok(());
        }
    }
}
