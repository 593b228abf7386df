//! The tokens a server accepts, changeable while it serves.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Instant,
};

use peer_proto::{Token, auth::TokenError};

/// Which handles a token opens.
type HandleFilter = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// A named token: one paired device, say.
#[derive(Clone)]
pub struct TokenGrant {
    token: Token,
    expires: Option<Instant>,
    handles: Option<HandleFilter>,
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
            handles: None,
        })
    }

    /// Ends its validity at this instant. Transfers that are running then go on to their end.
    #[must_use]
    pub const fn expires_at(mut self, instant: Instant) -> Self {
        self.expires = Some(instant);
        self
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
}

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
}

impl Holder {
    /// Whether its token opens this handle.
    pub(crate) fn allows(&self, handle: &str) -> bool {
        self.handles.as_ref().is_none_or(|allows| allows(handle))
    }
}

impl TokenSet {
    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Entries> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a token. A name may have several: that is how one is rotated with overlap.
    pub(crate) fn add(&self, name: &str, grant: TokenGrant) {
        let mut entries = self.write();
        let id = entries.next_id;
        entries.next_id += 1;
        entries.list.push(Entry {
            id,
            name: name.into(),
            grant,
        });
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
    pub(crate) fn find(&self, presented: &[u8], now: Instant) -> Option<Holder> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let mut found = None;
        for entry in &entries.list {
            let valid = entry.grant.expires.is_none_or(|expires| now < expires);
            if entry.grant.token.matches(presented) && valid {
                found = Some(entry);
            }
        }
        found.map(|entry| Holder {
            id: entry.id,
            name: Arc::clone(&entry.name),
            handles: entry.grant.handles.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn found(set: &TokenSet, token: &str) -> Option<String> {
        set.find(token.as_bytes(), Instant::now())
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
        let holder = set.find(b"a", now).unwrap();
        assert!(holder.allows("x") && !holder.allows("y"));
        assert!(set.find(b"a", end).is_none());
    }
}
