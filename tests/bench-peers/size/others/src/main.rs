//! Serves a range, and fetches it, with what else there is of this size. That a range is asked for, by
//! whom, and whether it came whole, is left to the user of both.

use std::{io::Read, thread};

fn main() {
    let server = tiny_http::Server::http("127.0.0.1:0").expect("a port is free");
    let address = server.server_addr().to_ip().expect("it is a port");
    thread::spawn(move || {
        for request in server.incoming_requests() {
            let response = tiny_http::Response::from_data(vec![7; 10]).with_status_code(206);
            request.respond(response).expect("it is taken");
        }
    });
    let answer = ureq::get(format!("http://{address}/track/a"))
        .header("Authorization", "Bearer t")
        .header("Range", "bytes=1-10")
        .call();
    let mut answer = answer.expect("it is there");
    let mut content = Vec::new();
    let read = answer.body_mut().as_reader().read_to_end(&mut content);
    println!("{}", read.expect("it comes"));
}
