//! Conditional requests, for GET and HEAD (RFC 9110 §13).

use crate::{
    FieldName, Fields, HttpDate, Validators,
    validator::{EntityTag, Listed, entity_tags},
};

/// The outcome of a request's preconditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// All hold, or there are none: perform the request.
    Holds,
    /// The client has this version already: 304.
    NotModified,
    /// The client asked for another version: 412.
    Failed,
}

/// Evaluates `If-Match`, `If-Unmodified-Since`, `If-None-Match` and `If-Modified-Since`, in the
/// order of RFC 9110 §13.2.2. A representation exists; methods are GET and HEAD.
///
/// A date field that is repeated or no HTTP-date is ignored, as §13.1.3 and §13.1.4 ask.
#[must_use]
pub fn evaluate(fields: &Fields<'_>, validators: &Validators) -> Precondition {
    let tag = validators.entity_tag;
    let modified = validators.last_modified;
    if fields.has(FieldName::IfMatch) {
        let strong =
            |listed: Listed<'_>, tag: &EntityTag| !listed.weak && listed.opaque == tag.opaque();
        if !any_tag(fields, FieldName::IfMatch, tag, strong) {
            return Precondition::Failed;
        }
    } else if let (Some(since), Some(modified)) =
        (date(fields, FieldName::IfUnmodifiedSince), modified)
    {
        if modified > since {
            return Precondition::Failed;
        }
    }
    if fields.has(FieldName::IfNoneMatch) {
        let weak = |listed: Listed<'_>, tag: &EntityTag| listed.opaque == tag.opaque();
        if any_tag(fields, FieldName::IfNoneMatch, tag, weak) {
            return Precondition::NotModified;
        }
    } else if let (Some(since), Some(modified)) =
        (date(fields, FieldName::IfModifiedSince), modified)
    {
        if modified <= since {
            return Precondition::NotModified;
        }
    }
    Precondition::Holds
}

/// Whether the request's ranges may be served: there is no `If-Range`, or it names the current
/// version (RFC 9110 §13.1.5). `now` is the date of the answer.
///
/// A date counts only when it is the exact modification date and lies at least a second in the
/// past: within its own second the representation may change again (§8.8.2.2).
#[must_use]
pub fn if_range_holds(fields: &Fields<'_>, validators: &Validators, now: Option<HttpDate>) -> bool {
    let value = match fields.single(FieldName::IfRange) {
        Ok(None) => return true,
        Ok(Some(value)) => value,
        Err(_) => return false,
    };
    if let Some(tag) = EntityTag::parse_strong(value) {
        return validators.entity_tag == Some(tag);
    }
    match (HttpDate::parse(value), validators.last_modified, now) {
        (Some(date), Some(modified), Some(now)) => {
            date == modified && now.seconds() > modified.seconds()
        }
        _ => false,
    }
}

fn any_tag(
    fields: &Fields<'_>,
    name: FieldName,
    tag: Option<EntityTag>,
    same: impl Fn(Listed<'_>, &EntityTag) -> bool,
) -> bool {
    if fields.single(name) == Ok(Some(b"*")) {
        return true;
    }
    let Some(tag) = tag else { return false };
    fields
        .all(name)
        .flat_map(entity_tags)
        .any(|listed| same(listed, &tag))
}

fn date(fields: &Fields<'_>, name: FieldName) -> Option<HttpDate> {
    HttpDate::parse(fields.single(name).ok()??)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::FieldLines;

    const OLD: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const AT: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const NEW: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn validators() -> Validators {
        Validators {
            entity_tag: EntityTag::strong("a").ok(),
            last_modified: HttpDate::parse(AT.as_bytes()),
        }
    }

    fn with_fields<T>(section: &str, check: impl Fn(&Fields<'_>) -> T) -> T {
        let text = format!("{section}\r\n");
        let (lines, _) = FieldLines::parse(text.as_bytes(), 0).unwrap().unwrap();
        check(&lines.of(text.as_bytes()))
    }

    fn check(section: &str, expected: Precondition) {
        let got = with_fields(section, |fields| evaluate(fields, &validators()));
        assert_eq!(got, expected, "{section}");
    }

    #[test]
    fn each_alone() {
        use Precondition::{Failed, Holds, NotModified};
        check("", Holds);
        check("If-Match: *\r\n", Holds);
        check("If-Match: \"a\"\r\n", Holds);
        check("If-Match: \"b\", \"a\"\r\n", Holds);
        check("If-Match: \"b\"\r\nIf-Match: \"a\"\r\n", Holds);
        check("If-Match: \"b\"\r\n", Failed);
        check("If-Match: W/\"a\"\r\n", Failed);
        check("If-Match: a\r\n", Failed);
        check("If-None-Match: *\r\n", NotModified);
        check("If-None-Match: \"a\"\r\n", NotModified);
        check("If-None-Match: W/\"a\"\r\n", NotModified);
        check("If-None-Match: \"b\"\r\n", Holds);
        check("If-None-Match: \"b\", W/\"a\"\r\n", NotModified);
        check("If-None-Match: a\r\n", Holds);
        check(&format!("If-Modified-Since: {OLD}\r\n"), Holds);
        check(&format!("If-Modified-Since: {AT}\r\n"), NotModified);
        check(&format!("If-Modified-Since: {NEW}\r\n"), NotModified);
        check("If-Modified-Since: yesterday\r\n", Holds);
        check(
            &format!("If-Modified-Since: {AT}\r\nIf-Modified-Since: {AT}\r\n"),
            Holds,
        );
        check(&format!("If-Unmodified-Since: {OLD}\r\n"), Failed);
        check(&format!("If-Unmodified-Since: {AT}\r\n"), Holds);
        check("If-Unmodified-Since: yesterday\r\n", Holds);
    }

    #[test]
    fn precedence() {
        use Precondition::{Failed, Holds, NotModified};
        check(
            &format!("If-Match: \"a\"\r\nIf-Unmodified-Since: {OLD}\r\n"),
            Holds,
        );
        check(
            &format!("If-None-Match: \"b\"\r\nIf-Modified-Since: {AT}\r\n"),
            Holds,
        );
        check("If-Match: \"b\"\r\nIf-None-Match: \"a\"\r\n", Failed);
        check("If-Match: \"a\"\r\nIf-None-Match: \"a\"\r\n", NotModified);
        check(
            &format!("If-Unmodified-Since: {OLD}\r\nIf-None-Match: \"a\"\r\n"),
            Failed,
        );
    }

    #[test]
    fn without_validators() {
        let none = Validators::default();
        for (section, expected) in [
            ("If-Match: \"a\"\r\n", Precondition::Failed),
            ("If-Match: *\r\n", Precondition::Holds),
            ("If-None-Match: \"a\"\r\n", Precondition::Holds),
            ("If-None-Match: *\r\n", Precondition::NotModified),
            (
                "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
                Precondition::Holds,
            ),
        ] {
            assert_eq!(
                with_fields(section, |fields| evaluate(fields, &none)),
                expected,
                "{section}"
            );
        }
    }

    #[test]
    fn if_range() {
        let later = HttpDate::parse(NEW.as_bytes());
        let same_second = HttpDate::parse(AT.as_bytes());
        for (section, now, expected) in [
            (String::new(), later, true),
            ("If-Range: \"a\"\r\n".into(), later, true),
            ("If-Range: \"b\"\r\n".into(), later, false),
            ("If-Range: W/\"a\"\r\n".into(), later, false),
            ("If-Range: a\r\n".into(), later, false),
            ("If-Range: \"a\", \"b\"\r\n".into(), later, false),
            ("If-Range: *\r\n".into(), later, false),
            (
                "If-Range: \"a\"\r\nIf-Range: \"a\"\r\n".into(),
                later,
                false,
            ),
            (format!("If-Range: {AT}\r\n"), later, true),
            (format!("If-Range: {AT}\r\n"), same_second, false),
            (format!("If-Range: {OLD}\r\n"), later, false),
            (format!("If-Range: {NEW}\r\n"), later, false),
            ("If-Range:\r\n".into(), later, false),
        ] {
            let got = with_fields(&section, |fields| {
                if_range_holds(fields, &validators(), now)
            });
            assert_eq!(got, expected, "{section}");
        }
    }
}
