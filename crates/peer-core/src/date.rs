//! The text of the `Date` field, written anew only when the second changes.

use peer_proto::HttpDate;

/// A cached IMF-fixdate.
#[derive(Clone, Debug, Default)]
pub(crate) struct DateText {
    date: Option<HttpDate>,
    text: Vec<u8>,
}

impl DateText {
    /// The text for `date`.
    pub(crate) fn of(&mut self, date: HttpDate) -> &[u8] {
        if self.date != Some(date) {
            self.date = Some(date);
            self.text.clear();
            date.write(&mut self.text);
        }
        &self.text
    }
}
