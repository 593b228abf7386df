//! A server that does exactly what its script says.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::mpsc::{Receiver, channel},
    thread::JoinHandle,
};

/// What a scripted server does next on a connection.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Reads one request head and reports it.
    Request,
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Tells the test, which waits with [`Script::reported`].
    Report,
    /// Waits until the client ends the connection.
    AwaitEnd,
}

/// Reads a request and answers it with `answer`.
pub(crate) fn answer(answer: impl AsRef<[u8]>) -> Vec<Act> {
    vec![Act::Request, Act::Send(answer.as_ref().to_vec())]
}

/// A server on loopback that plays one script per connection, then stops listening.
pub(crate) struct Script {
    address: SocketAddr,
    requests: Receiver<String>,
    told: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl Script {
    pub(crate) fn play(connections: Vec<Vec<Act>>) -> Self {
        Self::play_at(Ipv4Addr::LOCALHOST, connections)
    }

    /// As [`play`](Self::play), at an address of [`alone`].
    pub(crate) fn play_at(ip: Ipv4Addr, connections: Vec<Vec<Act>>) -> Self {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (report, requests) = channel();
        let (tell, told) = channel();
        let thread = std::thread::spawn(move || {
            for acts in connections {
                let (mut stream, _) = listener.accept().unwrap();
                for act in acts {
                    match act {
                        Act::Request => match read_head(&mut stream) {
                            Some(head) => report.send(head).unwrap(),
                            None => break,
                        },
                        // The client may have seen enough, and be gone.
                        Act::Send(bytes) => drop(stream.write_all(&bytes)),
                        Act::Report => tell.send(()).unwrap(),
                        Act::AwaitEnd => drop(stream.read_to_end(&mut Vec::new())),
                    }
                }
                // A program that another test started meanwhile may hold a share of it.
                let _ = stream.shutdown(Shutdown::Both);
            }
        });
        Self {
            address,
            requests,
            told,
            thread: Some(thread),
        }
    }

    pub(crate) fn base(&self) -> String {
        self.address.to_string()
    }

    /// Waits until the script comes to an [`Act::Report`].
    pub(crate) fn reported(&self) {
        self.told.recv().unwrap();
    }

    /// Waits for the end of all scripts; the requests that came, in order.
    pub(crate) fn requests(mut self) -> Vec<String> {
        self.thread.take().unwrap().join().unwrap();
        self.requests.try_iter().collect()
    }
}

/// A loopback address for one test alone, where the system takes all of 127.0.0.0/8 for loopback.
///
/// A test that dials a port that it has given up might else meet the server of another test, which
/// the system has given the port to since.
pub(crate) fn alone(test: u8) -> Ipv4Addr {
    let [_, _, middle, low] = std::process::id().to_be_bytes();
    let own = Ipv4Addr::new(127, 64 + test % 64, middle, low);
    match TcpListener::bind((own, 0)) {
        Ok(_) => own,
        Err(_) => Ipv4Addr::LOCALHOST,
    }
}

fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    Some(String::from_utf8(head).unwrap())
}
