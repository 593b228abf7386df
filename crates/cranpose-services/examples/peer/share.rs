//! `peer share`: offers files until it is stopped.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cranpose_services::peer::{PeerError, PeerServer, SourceResolver};

use crate::Outcome;
use crate::arguments::{Argument, Arguments, Usage, text, unknown};
use crate::catalogue::{Catalogue, LIBRARY};

pub(crate) fn run(mut arguments: Arguments) -> Outcome {
    let mut paths = Vec::new();
    let mut bind = "0.0.0.0".to_owned();
    let mut port = 0;
    let mut token_file = None;
    let mut until_eof = false;
    let mut origins = Vec::new();
    while let Some(argument) = arguments.next() {
        match argument {
            Argument::Positional(path) => paths.push(PathBuf::from(path)),
            Argument::Option(option) => match option.as_str() {
                "--bind" => bind = text(arguments.value(&option)?)?,
                "--port" => {
                    let value = text(arguments.value(&option)?)?;
                    port = value
                        .parse()
                        .map_err(|_| Usage(format!("{value:?} is no port")))?;
                }
                "--token-file" => token_file = Some(PathBuf::from(arguments.value(&option)?)),
                "--allow-origin" => origins.push(text(arguments.value(&option)?)?),
                "--until-eof" => until_eof = true,
                _ => return Err(unknown(&option)),
            },
        }
    }
    if paths.is_empty() {
        return Err(Usage("share what? name files or folders".into()).into());
    }

    let catalogue = Catalogue::of(&paths)?;
    let count = catalogue.len();
    if count == 0 {
        return Err("there is no file to share".into());
    }
    let token = match token_file {
        Some(file) => kept_token(&file).map_err(|error| format!("{}: {error}", file.display()))?,
        None => fresh_token()?,
    };
    let server =
        start((bind.as_str(), port), &token, catalogue, &origins).map_err(|error| match error {
            PeerError::InvalidInput(why) => why,
            error => format!("cannot listen on {bind} port {port}: {error}"),
        })?;

    let addresses = reachable(server.local_addr());
    let mut out = io::stdout().lock();
    for address in &addresses {
        writeln!(out, "address {address}")?;
    }
    writeln!(out, "token {token}")?;
    writeln!(
        out,
        "sharing {count} file{}; try:",
        if count == 1 { "" } else { "s" }
    )?;
    let address = addresses[0];
    writeln!(
        out,
        "  curl -H \"Authorization: Bearer {token}\" http://{address}/track/{LIBRARY}"
    )?;
    let program = PathBuf::from(std::env::args_os().next().unwrap_or_else(|| "peer".into()));
    writeln!(out, "  {} list {address} {token}", program.display())?;
    out.flush()?;
    drop(out);

    if until_eof {
        io::copy(&mut io::stdin(), &mut io::sink())?;
    } else {
        loop {
            std::thread::park();
        }
    }
    Ok(())
}

/// Serves a catalogue, to pages of these origins too; the server runs until the value is dropped.
pub(crate) fn start(
    bind: impl ToSocketAddrs,
    token: &str,
    catalogue: Catalogue,
    origins: &[String],
) -> Result<PeerServer, PeerError> {
    let resolver: SourceResolver = Arc::new(move |handle| catalogue.resolve(handle));
    let mut builder = PeerServer::builder(token, resolver);
    for origin in origins {
        builder = builder.allow_origin(origin)?;
    }
    builder.listen(bind)?.start()
}

/// 128 random bits from the operating system, in characters that need no quoting anywhere.
pub(crate) fn fresh_token() -> Outcome<String> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| format!("no randomness: {error}"))?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The token in a file; where there is none yet, a fresh one that is put there.
fn kept_token(file: &Path) -> Outcome<String> {
    match fs::read_to_string(file) {
        Ok(kept) => Ok(kept.trim_end().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let token = fresh_token()?;
            let mut options = OpenOptions::new();
            options.write(true).create_new(true);
            // Nobody else on this machine is meant to read it.
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            options.open(file)?.write_all(token.as_bytes())?;
            Ok(token)
        }
        Err(error) => Err(error.into()),
    }
}

/// The addresses to tell others, for what the server is bound to.
fn reachable(bound: SocketAddr) -> Vec<SocketAddr> {
    if !bound.ip().is_unspecified() {
        return vec![bound];
    }
    // Addresses that documentation may use and nothing else does (RFC 5737, RFC 3849).
    let v4 = outgoing((Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(192, 0, 2, 1).into()));
    let v6 = outgoing((
        Ipv6Addr::UNSPECIFIED,
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    ));
    let found = if bound.is_ipv4() {
        vec![v4]
    } else {
        vec![v6, v4]
    };
    let mut found: Vec<IpAddr> = found.into_iter().flatten().collect();
    if found.is_empty() {
        // No network at all: what is shared can still be fetched on this machine.
        found.push(if bound.is_ipv4() {
            Ipv4Addr::LOCALHOST.into()
        } else {
            Ipv6Addr::LOCALHOST.into()
        });
    }
    found
        .into_iter()
        .map(|ip| SocketAddr::new(ip, bound.port()))
        .collect()
}

/// This machine's own address on the way to `distant`: connecting a UDP socket sends nothing,
/// but makes the system choose a route and with it an address.
fn outgoing((any, distant): (impl Into<IpAddr>, IpAddr)) -> Option<IpAddr> {
    let socket = UdpSocket::bind((any.into(), 0)).ok()?;
    socket.connect((distant, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}
