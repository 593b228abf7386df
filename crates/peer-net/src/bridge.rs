//! URLs on this device for what a peer shares: for players that cannot carry a token.

use std::{
    fmt,
    fs::File,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    sync::{Arc, Weak, atomic::Ordering},
    time::{Duration, SystemTime},
};

use peer_core::{Access, ServerConfig, admission::Limits, pace::Priority};
use peer_proto::{EntityTag, Token, target::write_capability_target};

use crate::{
    cancel::Cancel,
    client::PeerClient,
    config::{Config, ServerEvent},
    error::PeerError,
    media_type,
    relay::Family,
    remote_source::{RemoteSource, RemoteSourceConfig},
    server::{PeerServer, ServerStats},
    source::{ByteSource, SourceMetadata},
    system::Os,
    token_set::TokenGrant,
};

/// Bytes of a name in a URL, at most.
const NAME_BYTES_MAX: usize = 255;

/// How long a URL is good for, unless set.
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a player may leave a connection unread, unless set: what is paused is not dead.
const STALL_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// Connections of players, unless set. A web view opens six to one server.
const LIMITS: Limits = Limits {
    strangers: 32,
    strangers_per_address: 32,
    paired: 64,
    paired_per_address: 64,
};

/// Serves what peers share to players on this device that take a URL and nothing else: AVPlayer,
/// Media3, web views, GStreamer, VLC.
///
/// It is the server of [`PeerServer`] on the loopback interface. In place of the token, each URL holds
/// a capability: 128 random bits of the system's that open one item, until they expire or are
/// [revoked](Self::revoke). Whoever has the URL can read the item; nothing else can be told from it. A
/// request is answered only if it calls the server by a loopback name and does not come from a page of
/// another origin ([`PeerBridgeBuilder::allow_origin`]); whatever is refused gets the same 403.
///
/// A bridge takes the peers of any number of clients. Dropping it revokes every URL and cuts every
/// answer.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let peer = peer_net::PeerClient::builder("192.168.1.7:8700", "secret").build()?;
/// let bridge = peer_net::PeerBridge::start()?;
/// let url = bridge.url(&peer, "album/01", "01 Song.flac")?;
/// // To any player: url.as_str()
/// # Ok(())
/// # }
/// ```
pub struct PeerBridge {
    server: PeerServer,
    family: Arc<Family>,
    lifetime: Duration,
    remote: RemoteSourceConfig,
}

/// A bridge's options, before it starts.
#[derive(Debug)]
#[must_use = "a builder does nothing until it is started"]
pub struct PeerBridgeBuilder {
    config: Config,
    address: SocketAddr,
    lifetime: Duration,
    remote: RemoteSourceConfig,
}

impl PeerBridgeBuilder {
    /// Listens on this address in place of `127.0.0.1` and a free port.
    ///
    /// # Errors
    /// [`PeerError::InvalidInput`] for one that is not the loopback's.
    pub fn listen(mut self, address: SocketAddr) -> Result<Self, PeerError> {
        if !address.ip().is_loopback() {
            let text = format!("{address} can be reached from other devices: not for a bridge");
            return Err(PeerError::InvalidInput(text));
        }
        self.address = address;
        Ok(self)
    }

    /// How long a URL is good for: 24 hours unless set. Time in which the device sleeps counts. An
    /// answer that is running then goes on to its end.
    pub const fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Lets web pages of `origin` use the URLs, and read what they are answered: the pages of a web
    /// view, say. Call it once for each. Pages that the bridge itself serves need none.
    ///
    /// Elements of such a page, as `<audio>`, need the attribute `crossorigin`: without it, browsers do
    /// not say what page it is, and the request is refused.
    ///
    /// # Errors
    /// [`PeerError::InvalidInput`] for what no browser sends, and for `*` and `null`.
    pub fn allow_origin(mut self, origin: &str) -> Result<Self, PeerError> {
        let allowed = self.config.origins.allow(origin);
        allowed.map_err(|error| PeerError::InvalidInput(format!("origin {origin:?}: {error}")))?;
        Ok(self)
    }

    /// How peers are read from.
    pub const fn remote(mut self, config: RemoteSourceConfig) -> Self {
        self.remote = config;
        self
    }

    /// Deadlines for players. Unless set, those of [`ServerConfig::default`], but 30 minutes for one
    /// that leaves its connection unread.
    pub const fn deadlines(mut self, deadlines: ServerConfig) -> Self {
        self.config.deadlines = deadlines;
        self
    }

    /// Budgets of connections: 32 without and 64 with a capability unless set.
    pub const fn limits(mut self, limits: Limits) -> Self {
        self.config.limits = limits;
        self
    }

    /// Has `hook` called with what happens. Transfers have the name in their URL for a handle, and no
    /// capability shows.
    pub fn on_event(mut self, hook: impl Fn(&ServerEvent<'_>) + Send + Sync + 'static) -> Self {
        self.config.hook = Some(Arc::new(hook));
        self
    }

    /// Starts the bridge.
    ///
    /// # Errors
    /// [`PeerError::Io`] when the address cannot be bound or no thread be started.
    pub fn start(self) -> Result<PeerBridge, PeerError> {
        let socket = TcpListener::bind(self.address).map_err(PeerError::Io)?;
        // Every capability brings its own source.
        let resolver = Arc::new(|_: &str| None);
        Ok(PeerBridge {
            server: PeerServer::start_with(
                self.config,
                resolver,
                vec![socket],
                None,
                Arc::new(Os),
            )?,
            family: Arc::default(),
            lifetime: self.lifetime,
            remote: self.remote,
        })
    }
}

impl PeerBridge {
    /// Starts a bridge on `127.0.0.1` and a free port.
    ///
    /// # Errors
    /// [`PeerError::Io`] when there is no port or no thread to be had.
    pub fn start() -> Result<Self, PeerError> {
        Self::builder().start()
    }

    /// A bridge with options.
    pub fn builder() -> PeerBridgeBuilder {
        let deadlines = ServerConfig {
            stall_timeout: STALL_TIMEOUT,
            ..ServerConfig::default()
        };
        PeerBridgeBuilder {
            config: Config {
                access: Access::Capability,
                deadlines,
                limits: LIMITS,
                ..Config::default()
            },
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            lifetime: LIFETIME,
            remote: RemoteSourceConfig::default(),
        }
    }

    /// Makes a URL for a peer's handle, of this form: `http://127.0.0.1:PORT/CAPABILITY/NAME.EXT`.
    ///
    /// Players choose a demuxer by the name's extension and by the media type, so the two are made to
    /// agree: where the extension tells a type, that is the type that is sent. Where it tells none, the
    /// peer is asked for the type now, and an extension that fits is added; otherwise the peer is not
    /// asked before a player does. Types that a browser would run as a page are not taken from a peer.
    ///
    /// The bytes are read as by a [`RemoteSource`].
    ///
    /// # Errors
    /// [`PeerError::InvalidInput`] for a name that is empty or longer than 255 bytes; what
    /// [`RemoteSource::open`] reports, if the peer is asked; [`PeerError::Io`] when the system has no
    /// random bits.
    pub fn url(&self, peer: &PeerClient, handle: &str, name: &str) -> Result<BridgeUrl, PeerError> {
        let family = Some(Arc::clone(&self.family));
        let source = RemoteSource::unopened(peer, handle, self.remote, family);
        let by_name = type_of_name(name);
        let content_type = match by_name {
            Some(known) => Some(known.to_owned()),
            // By a reader of its own, which is gone with the answer.
            None if !name.is_empty() => source.clone().learn_content_type()?,
            None => None,
        };
        let content_type = content_type.filter(|content_type| !media_type::is_active(content_type));
        let content_type = content_type.unwrap_or_else(|| UNKNOWN_TYPE.to_owned());
        let name = fitting_name(name, &content_type)?;
        self.add(Arc::new(source), name, Some(content_type))
    }

    /// Makes a URL for any source of the app's own. Its media type is the source's word; where it has
    /// none, the name's extension tells it.
    ///
    /// # Errors
    /// [`PeerError::InvalidInput`] for a name that is empty or longer than 255 bytes,
    /// [`PeerError::Io`] when the system has no random bits.
    pub fn url_of(&self, source: Arc<dyn ByteSource>, name: &str) -> Result<BridgeUrl, PeerError> {
        let content_type = source.content_type().map_or_else(
            || type_of_name(name).map(str::to_owned),
            |content_type| Some(content_type.to_owned()),
        );
        let name = fitting_name(name, content_type.as_deref().unwrap_or(UNKNOWN_TYPE))?;
        self.add(source, name, content_type)
    }

    fn add(
        &self,
        source: Arc<dyn ByteSource>,
        name: String,
        content_type: Option<String>,
    ) -> Result<BridgeUrl, PeerError> {
        let mut target = Vec::new();
        write_capability_target(&mut target, &capability()?, &name);
        let target = String::from_utf8(target);
        let target = target.map_err(|error| PeerError::InvalidInput(error.to_string()))?;
        let token = Token::new(&target[1..]);
        let token = token.map_err(|error| PeerError::InvalidInput(error.to_string()))?;
        let item = Arc::new(Item {
            source,
            content_type,
        });
        let tokens = &self.server.service().tokens;
        tokens.end_expired();
        let grant = TokenGrant::capability(token, item, self.lifetime);
        Ok(BridgeUrl {
            text: format!("http://{}{target}", self.server.local_addr()),
            shown: format!("http://{}/…/{name}", self.server.local_addr()),
            id: tokens.add(&name, grant),
            of: Arc::downgrade(&self.family),
        })
    }

    /// Takes a URL back, and cuts the answers that it is getting. Returns how many connections were
    /// cut. A URL of another bridge, or one that is over, cuts none.
    pub fn revoke(&self, url: &BridgeUrl) -> usize {
        if !Weak::ptr_eq(&url.of, &Arc::downgrade(&self.family)) {
            return 0;
        }
        let service = self.server.service();
        service.revoke(&service.tokens.end_capabilities(Some(url.id)))
    }

    /// Takes all URLs back, and cuts the answers that they are getting. Returns how many connections
    /// were cut.
    pub fn revoke_all(&self) -> usize {
        let service = self.server.service();
        service.revoke(&service.tokens.end_capabilities(None))
    }

    /// The address that players connect to.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.server.local_addr()
    }

    /// Whether players can still connect. Systems take listeners from apps that sleep:
    /// [`rebind`](Self::rebind).
    #[must_use]
    pub fn is_listening(&self) -> bool {
        let mut listeners = self.server.status().into_iter();
        listeners.any(|listener| listener.listening)
    }

    /// Listens anew, on the same port: URLs stay good.
    ///
    /// # Errors
    /// [`PeerError::Io`] when the port was taken by somebody else; the bridge is then without a
    /// listener.
    pub fn rebind(&self) -> Result<(), PeerError> {
        self.server.rebind(self.local_addr()).map(|_| ())
    }

    /// What the bridge does, and has done, in numbers.
    #[must_use]
    pub fn stats(&self) -> BridgeStats {
        let counters = &self.server.service().counters;
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let mut stats = BridgeStats {
            urls: self.server.service().tokens.capabilities(),
            refused_unknown: 0,
            refused_expired: read(&counters.refused_expired),
            refused_revoked: read(&counters.refused_revoked),
            refused_host: read(&counters.refused_host),
            refused_origin: read(&counters.refused_origin),
            server: self.server.stats(),
        };
        let told = stats.refused_expired
            + stats.refused_revoked
            + stats.refused_host
            + stats.refused_origin;
        stats.refused_unknown = stats.server.tokens_refused.saturating_sub(told);
        stats
    }

    /// Revokes every URL and cuts every answer. Returns when all threads of the bridge have ended,
    /// except those that a source of the app's holds up for more than a second. So does dropping it.
    pub fn close(self) {
        drop(self);
    }
}

impl Drop for PeerBridge {
    fn drop(&mut self) {
        self.revoke_all();
        self.server.stop(Duration::ZERO);
    }
}

impl fmt::Debug for PeerBridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerBridge")
            .field("address", &self.local_addr())
            .finish_non_exhaustive()
    }
}

/// A URL of one item: as good as the item to whoever has it, so not for logs. Its `Debug` shows no
/// capability, and it has no `Display`.
#[derive(Clone)]
pub struct BridgeUrl {
    text: String,
    shown: String,
    id: u64,
    of: Weak<Family>,
}

impl BridgeUrl {
    /// The URL, in ASCII, for a player.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl AsRef<str> for BridgeUrl {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for BridgeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BridgeUrl").field(&self.shown).finish()
    }
}

/// A bridge in numbers: what there is now, and counts since it started. A request that is refused is
/// counted once, by the first of these that holds: its host, its origin, its capability.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BridgeStats {
    /// URLs now that were not revoked. Those that expire go when the next one is made.
    pub urls: usize,
    /// Requests refused for a target that is no URL of this bridge: guesses, another item's name, and
    /// URLs that were over long ago.
    pub refused_unknown: u64,
    /// Requests refused for a URL whose time is over.
    pub refused_expired: u64,
    /// Requests refused for a URL that was revoked.
    pub refused_revoked: u64,
    /// Requests refused for calling the bridge by a name that is not the loopback's.
    pub refused_host: u64,
    /// Requests refused for coming from a page of an origin that is not allowed.
    pub refused_origin: u64,
    /// The server behind it.
    pub server: ServerStats,
}

/// A source under a URL, with the media type that goes with it.
struct Item {
    source: Arc<dyn ByteSource>,
    content_type: Option<String>,
}

impl ByteSource for Item {
    fn len(&self) -> Option<u64> {
        self.source.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<usize> {
        self.source.read_at(offset, buf)
    }

    fn content_type(&self) -> Option<&str> {
        self.content_type.as_deref()
    }

    fn entity_tag(&self) -> Option<EntityTag> {
        self.source.entity_tag()
    }

    fn last_modified(&self) -> Option<SystemTime> {
        self.source.last_modified()
    }

    fn priority(&self) -> Priority {
        self.source.priority()
    }

    fn metadata(&self) -> SourceMetadata {
        self.source.metadata()
    }

    fn file(&self) -> Option<&File> {
        self.source.file()
    }

    fn reader(&self, cancel: &Cancel) -> std::io::Result<Option<Arc<dyn ByteSource>>> {
        let reader = self.source.reader(cancel)?;
        Ok(reader.map(|source| -> Arc<dyn ByteSource> {
            Arc::new(Self {
                source,
                content_type: self.content_type.clone(),
            })
        }))
    }
}

/// Media type of what does not say.
const UNKNOWN_TYPE: &str = "application/octet-stream";

fn type_of_name(name: &str) -> Option<&'static str> {
    media_type::of_extension(name.rsplit_once('.')?.1)
}

/// The name, with an extension that fits the media type where it has none that is known.
fn fitting_name(name: &str, content_type: &str) -> Result<String, PeerError> {
    let extension = match type_of_name(name) {
        Some(_) => None,
        None => media_type::extension_for(content_type),
    };
    let name = match extension {
        Some(extension) if !name.is_empty() => format!("{name}.{extension}"),
        _ => name.to_owned(),
    };
    // Clients resolve dots as steps of a path before they ask.
    let is_name = !matches!(&*name, "" | "." | "..") && name.len() <= NAME_BYTES_MAX;
    is_name.then_some(name).ok_or_else(|| {
        PeerError::InvalidInput(format!(
            "a name has 1 to {NAME_BYTES_MAX} bytes, not dots alone"
        ))
    })
}

/// 128 bits of the system's, in hexadecimal digits.
fn capability() -> Result<String, PeerError> {
    let mut bits = [0; 16];
    fill_random(&mut bits)?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bits)))
}

#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
fn fill_random(bits: &mut [u8]) -> Result<(), PeerError> {
    let filled = getrandom::fill(bits);
    filled.map_err(|error| PeerError::Io(std::io::Error::other(error.to_string())))
}

#[cfg(all(target_family = "wasm", target_os = "unknown"))]
fn fill_random(_: &mut [u8]) -> Result<(), PeerError> {
    Err(PeerError::Io(std::io::ErrorKind::Unsupported.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_the_systems_randomness() {
        let capabilities = [(); 3].map(|()| capability().unwrap());
        for (n, one) in capabilities.iter().enumerate() {
            assert!(
                one.len() == 32 && u128::from_str_radix(one, 16).is_ok(),
                "{one}"
            );
            assert!(!capabilities[..n].contains(one), "{one} twice");
        }
    }

    #[test]
    fn unless_set_urls_last_a_day_and_pauses_half_an_hour() {
        let options = PeerBridge::builder();
        assert_eq!(options.lifetime, Duration::from_secs(86_400));
        let deadlines = options.config.deadlines;
        assert_eq!(deadlines.stall_timeout, Duration::from_secs(1_800));
    }

    #[test]
    fn names_get_what_they_lack() {
        for (name, content_type, expected) in [
            ("a.mp3", "audio/flac", Some("a.mp3")),
            ("a.MP3", "audio/mpeg", Some("a.MP3")),
            ("a", "audio/flac", Some("a.flac")),
            ("a.b", "audio/ogg; codecs=opus", Some("a.b.ogg")),
            ("a", UNKNOWN_TYPE, Some("a")),
            ("..", "audio/mpeg", Some("...mp3")),
            ("", "audio/mpeg", None),
            (".", UNKNOWN_TYPE, None),
            ("..", UNKNOWN_TYPE, None),
        ] {
            assert_eq!(
                fitting_name(name, content_type).ok().as_deref(),
                expected,
                "{name:?}"
            );
        }
        assert!(fitting_name(&"a".repeat(255), UNKNOWN_TYPE).is_ok());
        assert!(fitting_name(&"a".repeat(252), "audio/mpeg").is_err());
    }

    #[test]
    fn capabilities_are_the_systems() {
        let some: std::collections::HashSet<_> = (0..100).map(|_| capability().unwrap()).collect();
        assert_eq!(some.len(), 100);
        assert!(some.iter().all(|text| text.len() == 32));
    }
}
