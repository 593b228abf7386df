//! What binds every response.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use peer_tests::raw::{
    Framing, Response, is_tchar, parse_byteranges, parse_content_range, parse_imf_fixdate, show,
};

use super::TOKEN;

use super::boundary;

/// The rules that bind every response, whatever was asked.
pub(super) fn house_rules(response: &Response, to_head: bool) -> Result<(), String> {
    let status = response.status();
    let head = &response.head;
    for name in [
        "Accept-Ranges",
        "Access-Control-Allow-Headers",
        "Access-Control-Allow-Methods",
        "Access-Control-Allow-Origin",
        "Access-Control-Expose-Headers",
        "Access-Control-Max-Age",
        "Allow",
        "Cache-Control",
        "Connection",
        "Content-Length",
        "Content-Range",
        "Content-Type",
        "Date",
        "ETag",
        "Last-Modified",
        "Vary",
        "WWW-Authenticate",
    ] {
        if head.values(name).count() > 1 {
            return Err(format!("{name} more than once"));
        }
    }
    if head.fields.iter().any(|(_, value)| value.contains(TOKEN)) {
        return Err("the token is in a field".to_owned());
    }
    if !(200..600).contains(&status) {
        return Err(format!("status {status} as a final answer"));
    }
    // RFC 9110 §6.6.1: in every 2xx, 3xx and 4xx; the design adds 5xx.
    let date = head.field("Date").ok_or("no Date")?;
    let date = parse_imf_fixdate(date).ok_or_else(|| format!("Date {date:?}"))?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    if now.abs_diff(date) > 60 {
        return Err(format!("Date is {} s off", now.abs_diff(date)));
    }
    // §8.8.2.1.
    if let Some(text) = head.field("Last-Modified") {
        let modified = parse_imf_fixdate(text).ok_or_else(|| format!("Last-Modified {text:?}"))?;
        if modified > date {
            return Err("Last-Modified later than Date".to_owned());
        }
    }
    if let Some(tag) = head.field("ETag") {
        let opaque = tag.strip_prefix("W/").unwrap_or(tag);
        let inside = opaque.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
        if inside.is_none_or(|t| t.contains('"') || t.bytes().any(|b| b <= 0x20 || b == 0x7f)) {
            return Err(format!("ETag {tag:?}"));
        }
    }
    match status {
        200 | 206 | 304 => {
            for directive in ["private", "no-transform"] {
                if !head.lists("Cache-Control", directive) {
                    return Err(format!("{status} without Cache-Control: {directive}"));
                }
            }
        }
        _ => {
            if head
                .fields
                .iter()
                .any(|(name, _)| name.eq_ignore_ascii_case("Last-Modified"))
            {
                return Err(format!("Last-Modified in a {status}"));
            }
        }
    }
    match status {
        200 | 206 => {
            let accepts = head.field("Accept-Ranges");
            if !matches!(accepts, Some("bytes" | "none")) {
                return Err(format!("Accept-Ranges {accepts:?} in a {status}"));
            }
            if response.framing == Framing::UntilClose && !head.closes() {
                return Err("close-delimited without Connection: close".to_owned());
            }
        }
        304 => {}
        // A preflight's, and of nothing else.
        204 => {
            if head.field("Access-Control-Allow-Origin").is_none() {
                return Err("204 to no allowed origin".to_owned());
            }
            if head.field("Content-Length").is_some() || head.field("Content-Type").is_some() {
                return Err("204 with fields of a content".to_owned());
            }
        }
        400..=599 => {
            // An explanation for whoever debugs: text, short, and safe to show.
            let media_type = head.field("Content-Type").unwrap_or_default();
            if !media_type.starts_with("text/plain") {
                return Err(format!("Content-Type {media_type:?} in a {status}"));
            }
            if !to_head && !matches!(response.framing, Framing::Length(1..=1024)) {
                return Err(format!("{status} explained by {:?}", response.framing));
            }
            if response
                .content
                .iter()
                .any(|&b| b != b'\n' && !(0x20..0x7f).contains(&b))
            {
                return Err(format!("explanation {}", show(&response.content)));
            }
        }
        _ => return Err(format!("status {status} is never the answer here")),
    }
    if status == 401 {
        check_challenge(
            head.field("WWW-Authenticate")
                .ok_or("401 without WWW-Authenticate")?,
        )?;
    }
    if status == 405 && head.field("Allow") != Some("GET, HEAD") {
        return Err(format!("405 with Allow {:?}", head.field("Allow")));
    }
    if matches!(status, 401 | 404) {
        for name in ["ETag", "Content-Range", "Allow"] {
            if head.values(name).next().is_some() {
                return Err(format!("{name} in a {status}"));
            }
        }
    }
    // Fetch, the CORS protocol and HTTP caches: what differs by origin says so.
    if head.field("Access-Control-Allow-Origin").is_some() && !head.lists("Vary", "Origin") {
        return Err("an answer to one origin that does not vary by it".to_owned());
    }
    match (status, head.field("Content-Range")) {
        (206, Some(range)) => {
            let (first, last, total) = parse_content_range(range)?;
            if total.is_none() {
                return Err(format!(
                    "Content-Range {range:?} without the complete length"
                ));
            }
            if response.framing != Framing::Length(last - first + 1) {
                return Err(format!("{range:?} framed as {:?}", response.framing));
            }
            if head
                .field("Content-Type")
                .is_some_and(|t| t.starts_with("multipart/byteranges"))
            {
                return Err("Content-Range beside multipart/byteranges".to_owned());
            }
        }
        (206, None) => {
            let parts = parse_byteranges(&response.content, &boundary(response)?)?;
            if parts.len() < 2 {
                return Err(format!("multipart of {} parts", parts.len()));
            }
        }
        (416, Some(range)) => {
            let length = range.strip_prefix("bytes */").unwrap_or_default();
            if length.is_empty() || !length.bytes().all(|b| b.is_ascii_digit()) {
                return Err(format!("Content-Range {range:?} in a 416"));
            }
        }
        (_, None) => {}
        (_, Some(range)) => return Err(format!("Content-Range {range:?} in a {status}")),
    }
    Ok(())
}

/// RFC 9110 §11.6.1, RFC 6750 §3: one Bearer challenge with a realm, each parameter once.
pub(super) fn check_challenge(value: &str) -> Result<BTreeMap<String, String>, String> {
    let wrong = |what: &str| format!("WWW-Authenticate {value:?}: {what}");
    let mut rest = value
        .strip_prefix("Bearer ")
        .ok_or_else(|| wrong("not Bearer"))?;
    let mut params = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches(' ');
        let (name, after) = rest.split_once('=').ok_or_else(|| wrong("no parameter"))?;
        if name.is_empty() || !name.bytes().all(is_tchar) {
            return Err(wrong("parameter name"));
        }
        let (text, after) = after
            .strip_prefix('"')
            .and_then(|quoted| quoted.split_once('"'))
            .ok_or_else(|| wrong("parameter is not a quoted-string"))?;
        if params
            .insert(name.to_ascii_lowercase(), text.to_owned())
            .is_some()
        {
            return Err(wrong("parameter twice"));
        }
        match after.trim_start_matches(' ') {
            "" => break,
            more => rest = more.strip_prefix(',').ok_or_else(|| wrong("no comma"))?,
        }
    }
    if !params.contains_key("realm") {
        return Err(wrong("no realm"));
    }
    Ok(params)
}
