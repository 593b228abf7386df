//! Chromium, as a page sees it: what `docs/WEB.md` says can be done from where.

mod access;
mod driver;
mod player;
mod site;
