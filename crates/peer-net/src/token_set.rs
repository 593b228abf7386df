//! The tokens a server accepts, changeable while it serves.

use std::{
    fmt,
    ops::DerefMut,
    sync::{Arc, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use peer_proto::{Token, auth::TokenError};

use crate::{callback::call, source::ByteSource, sync::RwLock};

/// Which handles a token opens.
type HandleFilter = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// A named token: one paired device, say.
#[derive(Clone)]
pub struct TokenGrant {
    token: Token,
    expires: Option<Instant>,
    /// The same by the calendar, for what must not outlive the sleep of a phone, in which no
    /// [`Instant`] goes on.
    expires_by_date: Option<SystemTime>,
    handles: Option<HandleFilter>,
    /// What it opens in place of the resolver: the one source of a capability.
    source: Option<Arc<dyn ByteSource>>,
}

impl TokenGrant {
    /// A token that opens every handle and does not expire.
    ///
    /// # Errors
    /// [`TokenError`] for a text that is empty or cannot be sent in a field.
    pub fn new(token: impl Into<String>) -> Result<Self, TokenError> {
        Ok(Self {
            token: Token::new(token)?,
            expires: None,
            expires_by_date: None,
            handles: None,
            source: None,
        })
    }

    /// Ends its validity at this instant. Transfers that are running then go on to their end.
    #[must_use]
    pub const fn expires_at(mut self, instant: Instant) -> Self {
        self.expires = Some(instant);
        self
    }

    /// A capability: opens one source, for so long by either clock. A lifetime that no clock can tell
    /// the end of has none.
    pub(crate) fn capability(
        token: Token,
        source: Arc<dyn ByteSource>,
        lifetime: Duration,
    ) -> Self {
        Self {
            token,
            expires: Instant::now().checked_add(lifetime),
            expires_by_date: SystemTime::now().checked_add(lifetime),
            handles: None,
            source: Some(source),
        }
    }

    fn is_expired(&self, now: Instant, date: SystemTime) -> bool {
        self.expires.is_some_and(|expires| now >= expires)
            || self.expires_by_date.is_some_and(|expires| date >= expires)
    }

    /// Limits it to the handles that `allows` is true for. To its holder every other handle is
    /// unknown: 404, and the resolver is not asked.
    #[must_use]
    pub fn for_handles(mut self, allows: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.handles = Some(Arc::new(allows));
        self
    }
}

impl fmt::Debug for TokenGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenGrant")
            .field("expires", &self.expires)
            .field("limited", &self.handles.is_some())
            .finish_non_exhaustive()
    }
}

/// One token in the set.
struct Entry {
    id: u64,
    name: Arc<str>,
    grant: TokenGrant,
    /// Of a capability that is over, to tell it from one that never was.
    over: Option<Refusal>,
}

/// Why a token, or a request with one, is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is no such token, or not any more.
    Unknown,
    /// Its time is over.
    Expired,
    /// A capability that was taken back.
    Revoked,
    /// The request came by a foreign host's name.
    Host,
    /// The request came from a page of a foreign origin.
    Origin,
}

/// Capabilities that are over and remembered for the statistics, at most.
const OVER_MAX: usize = 256;

#[derive(Default)]
pub(crate) struct TokenSet {
    entries: RwLock<Entries>,
}

#[derive(Default)]
struct Entries {
    next_id: u64,
    list: Vec<Entry>,
}

/// What a presented token turned out to be.
#[derive(Clone)]
pub(crate) struct Holder {
    /// Number of the token in its set: never used again, so a replaced token is another one.
    pub(crate) id: u64,
    pub(crate) name: Arc<str>,
    handles: Option<HandleFilter>,
    /// What its token opens, whatever the handle.
    pub(crate) source: Option<Arc<dyn ByteSource>>,
}

impl Holder {
    /// Whether its token opens this handle.
    pub(crate) fn allows(&self, handle: &str) -> bool {
        self.handles.as_ref().is_none_or(|allows| allows(handle))
    }
}

impl TokenSet {
    fn write(&self) -> impl DerefMut<Target = Entries> + '_ {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a token, and returns its number. A name may have several: that is how one is rotated with
    /// overlap.
    pub(crate) fn add(&self, name: &str, grant: TokenGrant) -> u64 {
        let mut entries = self.write();
        let id = entries.next_id;
        entries.next_id += 1;
        entries.list.push(Entry {
            id,
            name: name.into(),
            grant,
            over: None,
        });
        id
    }

    /// Ends a capability, or all of them. Returns the numbers of those that were not over yet.
    pub(crate) fn end_capabilities(&self, only: Option<u64>) -> Vec<u64> {
        let chosen = |entry: &Entry| only.is_none_or(|id| entry.id == id);
        self.end(Refusal::Revoked, |entry| {
            entry.grant.source.is_some() && chosen(entry)
        })
    }

    /// Ends the capabilities whose time is over: what they open is not held any longer.
    pub(crate) fn end_expired(&self) {
        let (now, date) = (Instant::now(), SystemTime::now());
        self.end(Refusal::Expired, |entry| {
            entry.grant.source.is_some() && entry.grant.is_expired(now, date)
        });
    }

    fn end(&self, why: Refusal, chosen: impl Fn(&Entry) -> bool) -> Vec<u64> {
        let mut entries = self.write();
        let mut sources = Vec::new();
        let mut ended = Vec::new();
        for entry in &mut entries.list {
            if chosen(entry) {
                ended.push(entry.id);
                entry.over = Some(why);
                sources.push(entry.grant.source.take());
            }
        }
        let over = entries.list.iter().filter(|entry| entry.over.is_some());
        let mut surplus = over.count().saturating_sub(OVER_MAX);
        entries.list.retain(|entry| {
            let drop = entry.over.is_some() && surplus > 0;
            surplus -= usize::from(drop);
            !drop
        });
        drop(entries);
        // The app's code, which may take its time, or call back.
        let _ = call(|| drop(sources));
        ended
    }

    /// How many capabilities there are that were not ended.
    pub(crate) fn capabilities(&self) -> usize {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let live = entries
            .list
            .iter()
            .filter(|entry| entry.grant.source.is_some());
        live.count()
    }

    /// Takes all tokens of this name out. Returns their numbers.
    pub(crate) fn remove(&self, name: &str) -> Vec<u64> {
        let mut entries = self.write();
        let removed = entries.list.iter().filter(|entry| &*entry.name == name);
        let removed = removed.map(|entry| entry.id).collect();
        entries.list.retain(|entry| &*entry.name != name);
        removed
    }

    /// Takes all tokens of this name but the newest out. Returns their numbers.
    pub(crate) fn remove_older(&self, name: &str) -> Vec<u64> {
        let mut entries = self.write();
        let named = entries.list.iter().filter(|entry| &*entry.name == name);
        let mut removed: Vec<u64> = named.map(|entry| entry.id).collect();
        removed.pop();
        entries.list.retain(|entry| !removed.contains(&entry.id));
        removed
    }

    /// The names, each once, in the order they were added.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let mut names: Vec<String> = Vec::new();
        for entry in &entries.list {
            if !names.iter().any(|name| **name == *entry.name) {
                names.push(entry.name.to_string());
            }
        }
        names
    }

    /// Finds who holds this token. Every token is compared, so that the time taken does not tell
    /// which one it resembles.
    pub(crate) fn find(&self, presented: &[u8], now: Instant) -> Result<Holder, Refusal> {
        let date = SystemTime::now();
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let mut found = Err(Refusal::Unknown);
        for entry in &entries.list {
            let expired = entry
                .grant
                .is_expired(now, date)
                .then_some(Refusal::Expired);
            if entry.grant.token.matches(presented) {
                match (entry.over.or(expired), &found) {
                    (None, _) => found = Ok(entry),
                    (Some(why), Err(_)) => found = Err(why),
                    (Some(_), Ok(_)) => {}
                }
            }
        }
        found.map(|entry| Holder {
            id: entry.id,
            name: Arc::clone(&entry.name),
            handles: entry.grant.handles.clone(),
            source: entry.grant.source.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn found(set: &TokenSet, token: &str) -> Option<String> {
        set.find(token.as_bytes(), Instant::now())
            .ok()
            .map(|holder| holder.name.to_string())
    }

    #[test]
    fn add_rotate_revoke() {
        let set = TokenSet::default();
        assert_eq!(found(&set, "a"), None);
        set.add("phone", TokenGrant::new("a").unwrap());
        set.add("tv", TokenGrant::new("b").unwrap());
        set.add("phone", TokenGrant::new("c").unwrap());
        assert_eq!(found(&set, "a").as_deref(), Some("phone"));
        assert_eq!(
            found(&set, "c").as_deref(),
            Some("phone"),
            "both, while one takes over"
        );
        assert_eq!(set.remove_older("phone"), [0]);
        assert_eq!(found(&set, "a"), None);
        assert_eq!(found(&set, "c").as_deref(), Some("phone"));
        assert_eq!(set.names(), ["tv", "phone"]);
        assert_eq!(set.remove("phone"), [2]);
        assert_eq!(set.remove("phone"), []);
        assert_eq!(found(&set, "c"), None);
        assert_eq!(found(&set, "b").as_deref(), Some("tv"));
    }

    #[test]
    fn a_grant_does_not_show_its_token() {
        let grant = TokenGrant::new("hunter2").unwrap();
        assert!(!format!("{grant:?}").contains("hunter2"));
    }

    #[test]
    fn expiry_and_limits() {
        let set = TokenSet::default();
        let now = Instant::now();
        let end = now + Duration::from_secs(1);
        let grant = TokenGrant::new("a")
            .unwrap()
            .expires_at(end)
            .for_handles(|handle| handle == "x");
        set.add("guest", grant);
        let holder = set.find(b"a", now).unwrap_or_else(|why| panic!("{why:?}"));
        assert!(holder.allows("x") && !holder.allows("y"));
        assert_eq!(set.find(b"a", end).err(), Some(Refusal::Expired));
    }

    fn capability(text: &str, lifetime: Duration) -> TokenGrant {
        let source = Arc::new(crate::source::BytesSource::new(vec![1]));
        TokenGrant::capability(Token::new(text).unwrap(), source, lifetime)
    }

    #[test]
    fn capabilities_end_and_are_told_apart_for_a_while() {
        const HOUR: Duration = Duration::from_secs(3600);
        let set = TokenSet::default();
        let why = |token: &str| set.find(token.as_bytes(), Instant::now()).err();
        let first = set.add("a", capability("first", HOUR));
        set.add("b", capability("second", HOUR));
        set.add("c", capability("third", Duration::ZERO));
        set.add("d", capability("fourth", Duration::MAX));
        assert_eq!(
            [why("first"), why("fourth"), why("none")],
            [None, None, Some(Refusal::Unknown)]
        );
        assert_eq!(why("third"), Some(Refusal::Expired));
        assert_eq!(set.capabilities(), 4);
        set.end_expired();
        assert_eq!(set.capabilities(), 3);
        assert_eq!(why("third"), Some(Refusal::Expired));
        assert_eq!(set.end_capabilities(Some(first)), [first]);
        assert_eq!(set.end_capabilities(Some(first)), []);
        assert_eq!(
            [why("first"), why("second")],
            [Some(Refusal::Revoked), None]
        );
        assert_eq!(set.end_capabilities(None), [1, 3]);
        assert_eq!(set.capabilities(), 0);
        for number in 0..2 * OVER_MAX {
            let text = number.to_string();
            let id = set.add("x", capability(&text, HOUR));
            set.end_capabilities(Some(id));
        }
        assert_eq!(set.write().list.len(), OVER_MAX, "memory");
        assert_eq!(why("first"), Some(Refusal::Unknown));
        assert_eq!(why("300"), Some(Refusal::Revoked));
    }

    #[test]
    fn sleep_prolongs_no_capability() {
        let set = TokenSet::default();
        let mut grant = capability("a", Duration::from_secs(3600));
        // As after a sleep: the calendar has gone on, and no instant has.
        grant.expires_by_date = Some(SystemTime::now());
        set.add("a", grant);
        assert_eq!(set.find(b"a", Instant::now()).err(), Some(Refusal::Expired));
    }
}
