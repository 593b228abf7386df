//! The player page: what a peer shares, in a browser on this device.
//!
//! All of it comes over the bridge: the page, the list that it asks for, and the media. So the page
//! needs no token and no origin that anybody has to allow.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use cranpose_services::peer::{
    BridgeUrl, ByteSource, BytesSource, Cancel, PeerBridge, PeerClient, RetryPolicy,
};
use serde_json::json;

use crate::Outcome;
use crate::catalogue::{Item, note};
use crate::{list, share};

const PAGE: &str = include_str!("page.html");

/// Puts the page for a peer on the bridge. Its URL is good as long as the bridge runs.
pub(crate) fn open(
    bridge: &Arc<PeerBridge>,
    client: &PeerClient,
    base: &str,
    token: &str,
) -> Outcome<BridgeUrl> {
    // Somebody looks at the page and can press a button: better told soon than tried for long.
    let mut retry = RetryPolicy::default();
    retry.attempts = 2;
    let listing = Listing {
        peer: base.to_owned(),
        asking: PeerClient::builder(base, token).retry(retry).build()?,
        playing: client.clone(),
        bridge: Arc::downgrade(bridge),
        urls: Mutex::default(),
    };
    let catalogue = bridge.url_of(Arc::new(listing), "catalogue.json")?;
    // The page's own script and style carry this number; nothing that a peer sends can.
    let page = PAGE
        .replace("{{nonce}}", &share::fresh_token()?)
        .replace("{{catalogue}}", path_of(&catalogue));
    let page = BytesSource::new(page.into_bytes()).with_content_type("text/html; charset=utf-8");
    Ok(bridge.url_of(Arc::new(page), "player.html")?)
}

/// The path in a URL: to the page, its own origin goes without saying.
fn path_of(url: &BridgeUrl) -> &str {
    let authority = url.as_str().find("//").map_or(0, |at| at + 2);
    let path = url.as_str()[authority..].find('/').unwrap_or(0);
    &url.as_str()[authority + path..]
}

/// A peer's catalogue with a URL for each item, read from the peer whenever the page asks.
struct Listing {
    peer: String,
    asking: PeerClient,
    playing: PeerClient,
    /// The bridge holds this listing, so this must not hold the bridge.
    bridge: Weak<PeerBridge>,
    /// One URL for each item however often it is listed.
    urls: Mutex<BTreeMap<String, BridgeUrl>>,
}

impl Listing {
    fn read(&self, cancel: &Cancel) -> Outcome<Vec<u8>> {
        let bridge = self.bridge.upgrade().ok_or("the bridge is closed")?;
        let items = list::fetch_by(&self.asking.with_cancel(cancel), &self.peer)?;
        let mut urls = self.urls.lock().unwrap_or_else(PoisonError::into_inner);
        let mut listed = Vec::new();
        for item in items {
            let Item {
                handle,
                length,
                media_type,
            } = item;
            let (folder, name) = handle.rsplit_once('/').unwrap_or(("", &handle));
            let url = match urls.get(&handle) {
                Some(url) => url.clone(),
                // An item that no URL can be made for is left out, like one that is not there.
                None => match bridge.url(&self.playing, &handle, name) {
                    Ok(url) => url,
                    Err(_) => continue,
                },
            };
            listed.push(json!({
                "name": name,
                "folder": folder,
                "length": length,
                "type": media_type,
                "url": path_of(&url),
            }));
            urls.insert(handle, url);
        }
        Ok(json!({ "peer": self.peer, "items": listed })
            .to_string()
            .into_bytes())
    }
}

impl ByteSource for Listing {
    /// Each answer has a list of its own: see `reader`.
    fn len(&self) -> Option<u64> {
        None
    }

    fn read_at(&self, _: u64, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn content_type(&self) -> Option<&str> {
        Some("application/json")
    }

    fn reader(&self, cancel: &Cancel) -> io::Result<Option<Arc<dyn ByteSource>>> {
        let list = self.read(cancel).map_err(|error| {
            note(&error.to_string());
            io::Error::other(error.to_string())
        })?;
        Ok(Some(Arc::new(
            BytesSource::new(list).with_content_type("application/json"),
        )))
    }
}
