//! Requests that are let in by their target: what they present, and where they come from.

use peer_proto::{
    FieldName, Fields,
    target::{CapabilityTarget, is_loopback},
};

use super::{Foreign, ServerConnection, State, request::Request};
use crate::origin::AllowedOrigins;

impl ServerConnection {
    /// Has the request's target judged. What holds no capability presents nothing, and is judged like
    /// the others: what is refused takes the same way to the same answer.
    pub(super) fn present_target(&mut self) {
        let Some(Request { head, .. }) = &self.request else {
            return;
        };
        let bytes = &self.buffer[self.start..self.filled];
        let target = CapabilityTarget::parse(head.target(bytes));
        let authority = target.as_ref().and_then(|target| target.authority);
        let fields = head.fields(bytes);
        self.foreign = if is_own_host(&fields, authority) {
            let is_welcome = is_welcome(&fields, &self.allowed_origins);
            (!is_welcome).then_some(Foreign::Origin)
        } else {
            Some(Foreign::Host)
        };
        let (path, name) = target
            .map(|target| (target.path, target.name))
            .unwrap_or_default();
        self.enter(State::Present { path, name });
    }
}

/// Whether the request calls this server by a loopback name, wherever it does. A browser says in
/// `Host` what the page it shows calls the server, and no page can change that.
fn is_own_host(fields: &Fields<'_>, authority: Option<&[u8]>) -> bool {
    let host = fields.single(FieldName::Host).ok().flatten();
    host.is_some_and(is_loopback) && authority.is_none_or(is_loopback)
}

/// Whether a request comes from no page, from a page of this server, or from one of an allowed origin.
///
/// `Origin` tells where it is sent: with whatever a page may read. An element such as `<audio>`
/// without `crossorigin` sends none, and then `Sec-Fetch-Site` tells as much as is needed. Players
/// that are no browsers send neither.
fn is_welcome(fields: &Fields<'_>, allowed: &AllowedOrigins) -> bool {
    let own = |origin: &[u8]| {
        let host = fields.single(FieldName::Host).ok().flatten();
        let name = origin.strip_prefix(b"http://");
        name.zip(host)
            .is_some_and(|(name, host)| name.eq_ignore_ascii_case(host))
    };
    match fields.single(FieldName::Origin) {
        Ok(Some(origin)) => allowed.allows(origin) || own(origin),
        Ok(None) => fields
            .all(FieldName::SecFetchSite)
            .all(|site| matches!(site, b"same-origin" | b"none")),
        Err(_) => false,
    }
}
