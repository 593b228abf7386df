//! Where a peer is: the `host:port` that apps pass around.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, ToSocketAddrs},
};

/// Bytes of a host name, as DNS limits them.
const NAME_BYTES_MAX: usize = 253;

/// A peer's address: an IPv4 address, `[IPv6]`, `[IPv6%scope]` or a name, with a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Base {
    host: Host,
    port: u16,
    host_field: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Host {
    V4(Ipv4Addr),
    V6(Ipv6Addr, u32),
    /// An IPv6 address with a scope that only the system can number, or a name.
    Named(String),
}

/// Why a text is not a [`Base`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidBase {
    /// No `:` with a number from 1 to 65535 behind it.
    #[error("the base has no port, or one that is no number from 1 to 65535")]
    Port,
    /// A scheme, path, user information or something else in place of a host.
    #[error("the base is no host and port: no scheme, no path")]
    Host,
    /// An address in brackets that is no IPv6 address, or an IPv6 address without brackets.
    #[error("the base has an invalid IPv6 address; it belongs in brackets")]
    V6,
}

impl Base {
    /// Parses `host:port`.
    ///
    /// # Errors
    /// [`InvalidBase`], for everything that is more or less than a host and a port.
    pub fn parse(text: &str) -> Result<Self, InvalidBase> {
        if let Some(rest) = text.strip_prefix('[') {
            let (inner, port) = rest.split_once(']').ok_or(InvalidBase::V6)?;
            let port = parse_port(port.strip_prefix(':').ok_or(InvalidBase::Port)?)?;
            return Self::v6(inner, port);
        }
        let (host, port) = text.rsplit_once(':').ok_or(InvalidBase::Port)?;
        if host.contains(':') {
            // `::1:80` could be read in two ways; `http://a:80` in none.
            let is_v6 = host.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
            return Err(if is_v6 {
                InvalidBase::V6
            } else {
                InvalidBase::Host
            });
        }
        let port = parse_port(port)?;
        if !is_name(host) {
            return Err(InvalidBase::Host);
        }
        let host_field = format!("{host}:{port}");
        let host = host
            .parse()
            .map_or_else(|_| Host::Named(host.to_owned()), Host::V4);
        Ok(Self {
            host,
            port,
            host_field,
        })
    }

    fn v6(inner: &str, port: u16) -> Result<Self, InvalidBase> {
        let (address, scope) = match inner.split_once('%') {
            Some((address, scope)) => (address, Some(scope)),
            None => (inner, None),
        };
        let ip: Ipv6Addr = address.parse().map_err(|_| InvalidBase::V6)?;
        let host = match scope {
            None => Host::V6(ip, 0),
            Some(scope) if !is_scope(scope) => return Err(InvalidBase::V6),
            Some(scope) if scope.bytes().all(|byte| byte.is_ascii_digit()) => {
                Host::V6(ip, scope.parse().map_err(|_| InvalidBase::V6)?)
            }
            // Only the system knows the number of an interface.
            Some(_) => Host::Named(inner.to_owned()),
        };
        Ok(Self {
            host,
            port,
            // A scope means something on this host alone, and is not sent (RFC 6874 §1).
            host_field: format!("[{address}]:{port}"),
        })
    }

    /// The value of the `Host` field.
    #[must_use]
    pub fn host_field(&self) -> &str {
        &self.host_field
    }

    /// Whether [`resolve`](Self::resolve) has to ask the system, which may take its time.
    #[must_use]
    pub const fn is_named(&self) -> bool {
        matches!(self.host, Host::Named(_))
    }

    /// The addresses to try, in the system's order; at least one.
    ///
    /// # Errors
    /// When the name, or the scope, is not known.
    pub fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let addresses = match &self.host {
            Host::V4(ip) => vec![SocketAddrV4::new(*ip, self.port).into()],
            Host::V6(ip, scope) => vec![SocketAddrV6::new(*ip, self.port, 0, *scope).into()],
            Host::Named(name) => (name.as_str(), self.port).to_socket_addrs()?.collect(),
        };
        if addresses.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "the name has no address",
            ));
        }
        Ok(addresses)
    }
}

fn parse_port(text: &str) -> Result<u16, InvalidBase> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port) if is_number && port != 0 => Ok(port),
        _ => Err(InvalidBase::Port),
    }
}

fn is_name(host: &str) -> bool {
    let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    !host.is_empty() && host.len() <= NAME_BYTES_MAX && host.bytes().all(is_name_byte)
}

fn is_scope(scope: &str) -> bool {
    let is_scope_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:*".contains(&byte);
    !scope.is_empty() && scope.bytes().all(is_scope_byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted() {
        for (text, host_field, address) in [
            ("127.0.0.1:80", "127.0.0.1:80", "127.0.0.1:80"),
            ("[::1]:8080", "[::1]:8080", "[::1]:8080"),
            ("[fe80::1%7]:1", "[fe80::1]:1", "[fe80::1%7]:1"),
            (
                "[::ffff:1.2.3.4]:5",
                "[::ffff:1.2.3.4]:5",
                "[::ffff:1.2.3.4]:5",
            ),
            ("127.0.0.1:00080", "127.0.0.1:80", "127.0.0.1:80"),
        ] {
            let base = Base::parse(text).unwrap();
            assert_eq!(base.host_field(), host_field);
            assert!(!base.is_named(), "{text}");
            assert_eq!(base.resolve().unwrap(), [address.parse().unwrap()]);
        }
        for (text, host_field) in [
            ("localhost:65535", "localhost:65535"),
            ("my_phone.local.:1", "my_phone.local.:1"),
            ("[fe80::1%eth0]:80", "[fe80::1]:80"),
        ] {
            let base = Base::parse(text).unwrap();
            assert_eq!(base.host_field(), host_field);
            assert!(base.is_named(), "{text}");
        }
    }

    #[test]
    fn names_and_scopes_are_looked_up() {
        let addresses = Base::parse("localhost:7").unwrap().resolve().unwrap();
        assert!(
            addresses
                .iter()
                .all(|a| a.ip().is_loopback() && a.port() == 7)
        );
        let unknown = Base::parse("[fe80::1%no-such-interface]:80").unwrap();
        assert!(unknown.resolve().is_err());
    }

    #[test]
    fn refused() {
        use InvalidBase as E;
        for (text, error) in [
            ("", E::Port),
            ("host", E::Port),
            ("host:", E::Port),
            ("host:0", E::Port),
            ("host:65536", E::Port),
            ("host:+80", E::Port),
            ("host: 80", E::Port),
            ("host:80 ", E::Port),
            ("host:80/", E::Port),
            ("host:80\r\nX: y", E::Host),
            ("host:80\r\n", E::Port),
            (":80", E::Host),
            ("http://host:80", E::Host),
            ("http://host", E::Port),
            ("user@host:80", E::Host),
            ("user:pass@host:80", E::Host),
            ("ho st:80", E::Host),
            ("host\0:80", E::Host),
            ("host/a:80", E::Host),
            ("hôte:80", E::Host),
            ("::1:80", E::V6),
            ("[::1]", E::Port),
            ("[::1]80", E::Port),
            ("[::1:80", E::V6),
            ("[]:80", E::V6),
            ("[1.2.3.4]:80", E::V6),
            ("[::1%]:80", E::V6),
            ("[::1%a\nb]:80", E::V6),
            ("[::1% ]:80", E::V6),
            ("[::1%99999999999]:80", E::V6),
        ] {
            assert_eq!(Base::parse(text), Err(error), "{text:?}");
        }
    }
}
