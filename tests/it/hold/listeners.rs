//! Where a server listens: several addresses, both families, scope ids, the port it had before.

use std::{
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    process::Command,
    time::Duration,
};

use cranpose_services::peer::{PeerServer, PeerServerBuilder, fetch_range};
use peer_tests::raw::RawPeer;

use crate::capability::{Capability, has};

use super::{CONTENT_BYTES, TOKEN, alone_with, patterned, request, resolver, skip};

fn builder() -> PeerServerBuilder {
    PeerServer::builder(TOKEN, resolver(CONTENT_BYTES))
}

/// Fetches as an app does, from an address as an app writes it.
fn fetch(base: &str) {
    let fetched = fetch_range(base, TOKEN, "any", 5, Some(1_000));
    let fetched = fetched.unwrap_or_else(|error| panic!("{base}: {error}"));
    assert!(fetched.bytes == patterned(5, 1_000), "{base}");
}

fn addresses(server: &PeerServer) -> Vec<SocketAddr> {
    let status = server.status();
    assert!(status.iter().all(|listener| listener.listening));
    status.iter().map(|listener| listener.address).collect()
}

fn stop(server: PeerServer, addresses: &[SocketAddr]) {
    assert!(server.shutdown(Duration::ZERO).all_threads_ended);
    for address in addresses {
        assert!(TcpStream::connect(address).is_err(), "{address} is there");
    }
}

fn has_ipv6(test: &str) -> bool {
    let has = TcpListener::bind("[::1]:0").is_ok();
    if !has {
        skip(&format!("{test}: no IPv6 here"));
    }
    has
}

#[test]
fn several_at_once() {
    let mut builder = builder().listen("127.0.0.1:0").unwrap();
    builder = builder.listen("127.0.0.1:0").unwrap();
    let mut expected = 2;
    if has_ipv6("hold::listeners::several_at_once, in part") {
        builder = builder.listen("[::1]:0").unwrap();
        expected = 3;
    }
    let server = builder.start().unwrap();
    let all = addresses(&server);
    assert_eq!(all.len(), expected);
    assert_eq!(server.local_addr(), all[0]);
    for address in &all {
        fetch(&address.to_string());
    }
    // One transfer on each, which the move to one listener of another family leaves alone.
    let mut running: Vec<RawPeer> = all
        .iter()
        .map(|address| {
            let mut peer = RawPeer::connect(*address).unwrap();
            peer.send(&request("any", TOKEN, "")).unwrap();
            assert_eq!(peer.read_head().unwrap().unwrap().status, 200);
            peer
        })
        .collect();
    let one = server.rebind(all[expected - 1]).unwrap();
    assert_eq!((one, addresses(&server)), (all[expected - 1], vec![one]));
    for gone in &all[..expected - 1] {
        assert!(TcpStream::connect(gone).is_err(), "{gone} is there");
    }
    fetch(&one.to_string());
    for peer in &mut running {
        let (content, cut) = peer.read_length(CONTENT_BYTES as u64).unwrap();
        assert!(cut.is_none() && content == patterned(0, CONTENT_BYTES));
    }
    stop(server, &[one]);
}

/// `[::]` and `0.0.0.0` on one port, if this system separates the two: both are served either way.
fn on_every_address(separates: Option<bool>) {
    let first = builder().listen("[::]:0").unwrap().start().unwrap();
    let port = first.port();
    drop(first);
    let both = builder().listen(("::", port)).unwrap();
    let server = match both.listen(("0.0.0.0", port)) {
        Ok(both) => {
            assert_ne!(separates, Some(false));
            both.start().unwrap()
        }
        Err(error) => {
            assert_ne!(separates, Some(true), "{error}");
            builder().listen(("::", port)).unwrap().start().unwrap()
        }
    };
    assert!(addresses(&server).iter().all(|own| own.port() == port));
    fetch(&format!("127.0.0.1:{port}"));
    fetch(&format!("[::1]:{port}"));
    let own = [
        SocketAddr::from(([127, 0, 0, 1], port)),
        SocketAddr::new(IpAddr::V6(std::net::Ipv6Addr::LOCALHOST), port),
    ];
    stop(server, &own);
}

/// Runs the rest of a test in a network of its own, made ready by `setup`. `true`: this is there.
fn in_a_network(name: &str, setup: &str) -> bool {
    alone_with(name, |own| {
        let reaches = |flags: &&str| {
            let tried = Command::new("unshare")
                .args([flags, "sh", "-c", setup])
                .output();
            tried.is_ok_and(|output| output.status.success())
        };
        // With rights one has, or in a name space of users where one has them.
        let Some(flags) = ["-n", "-rn"].into_iter().find(reaches) else {
            skip(&format!("{name}: no network of its own can be made"));
            return None;
        };
        let mut command = Command::new("unshare");
        let script = format!("{setup} && exec \"$0\" \"$@\"");
        command.args([flags, "sh", "-c", &script]);
        command.arg(own.get_program()).args(own.get_args());
        Some(command)
    })
}

#[test]
fn both_families_on_one_port() {
    if has_ipv6("hold::listeners::both_families_on_one_port") {
        on_every_address(None);
    }
}

#[test]
fn both_families_on_one_port_where_they_are_separate() {
    let name = "hold::listeners::both_families_on_one_port_where_they_are_separate";
    if in_a_network(
        name,
        "ip link set lo up && echo 1 >/proc/sys/net/ipv6/bindv6only",
    ) {
        on_every_address(Some(true));
    }
}

/// A link-local address is one of an interface, in what is bound, told and asked for.
#[test]
fn scope_ids() {
    let name = "hold::listeners::scope_ids";
    // qemu-s390x gives interfaces other numbers back.
    if !has(&[Capability::NotEmulated]) {
        return;
    }
    let setup = "ip link set lo up && ip -6 address add fe80::7/64 dev lo nodad";
    if !in_a_network(name, setup) {
        return;
    }
    let index = std::fs::read_to_string("/sys/class/net/lo/ifindex").map_or(1, |index| {
        index.trim().parse().expect("an interface's number")
    });
    assert!(builder().listen("[fe80::7]:0").is_err(), "of no interface");
    let address = format!("[fe80::7%{index}]:0")
        .parse::<SocketAddr>()
        .unwrap();
    let server = builder().listen(address).unwrap().start().unwrap();
    let bound = server.local_addr();
    assert_eq!(
        bound.to_string(),
        format!("[fe80::7%{index}]:{}", bound.port())
    );
    for scope in [index.to_string(), "lo".to_owned()] {
        fetch(&format!("[fe80::7%{scope}]:{}", bound.port()));
    }
    assert_eq!(server.rebind(bound).unwrap(), bound);
    fetch(&bound.to_string());
    stop(server, &[bound]);
}

#[test]
fn the_port_it_had_before() {
    let own = if cfg!(target_os = "linux") {
        "127.83.7.3"
    } else {
        "127.0.0.1"
    };
    let any: SocketAddr = (own.parse::<IpAddr>().unwrap(), 0).into();
    let start = |wanted| {
        builder()
            .listen_preferring(wanted)
            .unwrap()
            .start()
            .unwrap()
    };
    let first = start(any);
    let address = first.local_addr();
    drop(first);
    // Free again: the same. Taken: any other, of the same address.
    let again = start(address);
    assert_eq!(again.local_addr(), address);
    let other = start(address);
    assert_eq!(other.local_addr().ip(), address.ip());
    assert_ne!(other.port(), address.port());
    for server in [&again, &other] {
        fetch(&server.local_addr().to_string());
    }
    // Of another device: nowhere.
    assert!(
        builder()
            .listen_preferring("192.0.2.1:0".parse().unwrap())
            .is_err()
    );
    stop(again, &[address]);
}
