//! Media elements on a bridge, and the example's player page.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::sync::Arc;

use cranpose_services::peer::BytesSource;
use serde_json::{Value, json};

use super::driver::Browser;
use crate::capability::{Capability, has};
use crate::fetch_script::alone;
use crate::real::bridge::{Bridged, SEEKS};
use crate::real::harness::{Scratch, Share, peer, run};
use crate::real::media::{FLAC, MP3, MP4_H264, WAV, WEBM};

#[test]
fn elements_play_from_a_bridge_while_the_peer_goes_and_comes() {
    let Some(browser) = Browser::start(&[]) else {
        return;
    };
    for medium in [MP3, FLAC, WAV, MP4_H264, WEBM] {
        let Some(file) = medium.file() else { return };
        let bridged = Bridged::new(&file, 35);
        let page = BytesSource::new(b"<!doctype html><title>An element</title>".to_vec())
            .with_content_type("text/html");
        let page = bridged.bridge.url_of(Arc::new(page), "page.html").unwrap();
        let is_film = medium.name.starts_with("film");
        browser.go(page.as_str());
        let played = browser.run(
            include_str!("element.js"),
            json!({ "url": bridged.url.as_str(), "places": SEEKS,
                    "kind": if is_film { "video" } else { "audio" } }),
        );
        let name = medium.name;
        assert_eq!(played["wrong"], json!([]), "{name}: {played}");
        let (duration, end) = (played["duration"].as_f64(), played["end"].as_f64());
        // Codecs pad.
        assert!((duration.unwrap() - 60.0).abs() < 0.2, "{name}: {played}");
        assert!(
            (end.unwrap() - duration.unwrap()).abs() < 0.2,
            "{name}: {played}"
        );
        assert_eq!(
            played["videoWidth"],
            if is_film { 320 } else { 0 },
            "{name}"
        );
        bridged.end(name);
    }
}

/// `peer open` at work; it ends with the value.
struct Open {
    child: Child,
    // Open as long as the process may write to it.
    _stdout: BufReader<ChildStdout>,
    url: String,
}

impl Open {
    fn page_of(share: &Share) -> Option<Self> {
        let mut open = peer(["open", "--until-eof", &share.address, &share.token])?;
        open.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = open.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let url = line.strip_prefix("url ").expect("a URL").trim().to_owned();
        Some(Self {
            child,
            _stdout: stdout,
            url,
        })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Shares a folder under a port and a token that stay, where no other test takes the port meanwhile.
fn share(scratch: &Scratch, port: &str) -> Option<Share> {
    let (bind, token) = (alone(36).to_string(), scratch.join("token"));
    let token = token.display().to_string();
    let options = ["--bind", &bind, "--port", port, "--token-file", &token];
    Share::with(options, [scratch.join("music")])
}

/// Keeps what the browser shows, where somebody wants to look at it.
fn keep_picture(browser: &Browser, name: &str) {
    if let Some(folder) = std::env::var_os("PEER_PICTURES") {
        // Nothing is to be seen of a change of colours that is under way.
        browser.run("await new Promise(requestAnimationFrame)", Value::Null);
        fs::create_dir_all(&folder).unwrap();
        fs::write(Path::new(&folder).join(name), browser.picture()).unwrap();
    }
}

/// What the page shows, once the condition holds.
const SHOWN: &str = "
    const text = id => document.getElementById(id).textContent;
    const visible = id => document.getElementById(id).checkVisibility();
    const media = document.getElementById('media');
    const holds = new Function('text', 'visible', 'media', `return ${given.when}`);
    for (let tries = 0; !holds(text, visible, media); tries += 1) {
        // What is shown instead then fails the test.
        if (tries > 600) break;
        await new Promise(resolve => setTimeout(resolve, 100));
    }
    return {
        peer: text('peer'), count: text('count'), message: text('message'),
        rows: [...document.querySelectorAll('#list button')].map(row => row.innerText),
        current: document.querySelector('#list [aria-current=true] .name')?.textContent ?? null,
        trouble: visible('trouble') ? text('what') : null,
        title: visible('player') ? text('title') : null,
        toggle: document.getElementById('toggle').getAttribute('aria-label'),
        total: text('total'), film: visible('media'), at: media.currentTime,
        wide: document.documentElement.scrollWidth > innerWidth,
    };";

fn shown(browser: &Browser, when: &str) -> Value {
    browser.run(SHOWN, json!({ "when": when }))
}

#[test]
fn the_page_lists_plays_and_gets_over_a_peer_that_is_gone() {
    let scratch = Scratch::new();
    for (medium, name) in [
        (MP3, "Harbour/01 Rising.mp3"),
        (FLAC, "Harbour/02 Rising, without loss.flac"),
        (WAV, "Harbour/Ünïcødé — <b>&amp;.wav"),
        (MP4_H264, "Films/Test card.mp4"),
        (WEBM, "Films/Test card.webm"),
    ] {
        let Some(file) = medium.file() else { return };
        scratch.write(&format!("music/{name}"), &fs::read(file).unwrap());
    }
    scratch.write("music/notes.txt", b"not to be played");
    let Some(mut sharing) = share(&scratch, "0") else {
        return;
    };
    let port = sharing.address.rsplit(':').next().unwrap().to_owned();
    let Some(open) = Open::page_of(&sharing) else {
        return;
    };
    let Some(browser) = Browser::start(&["--window-size=900,760"]) else {
        return;
    };
    let click =
        |what: &str| browser.run("document.querySelector(given).click()", Value::from(what));
    browser.go(&open.url);
    // How long they are is learned once they can be seen.
    let rest = shown(
        &browser,
        "text('list').match(/1:00/g)?.length === 5 || visible('trouble')",
    );
    assert_eq!(rest["peer"], *sharing.address);
    assert_eq!(rest["count"], "5 tracks");
    assert_eq!(rest["message"], "");
    assert_eq!(rest["title"], Value::Null);
    let rows = rest["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 5, "{rest}");
    for row in rows {
        assert!(row.as_str().unwrap().contains("\n1:00\n"), "{rest}");
    }
    assert!(
        rows[4].as_str().unwrap().contains("Ünïcødé — <b>&amp;.wav"),
        "{rest}"
    );
    keep_picture(&browser, "page.png");

    // It plays, from where it is put.
    click("#list li:nth-child(3) button");
    let playing = shown(&browser, "media.currentTime > 0.5");
    assert_eq!(playing["current"], "01 Rising.mp3");
    assert_eq!(playing["title"], "01 Rising.mp3");
    assert_eq!(playing["toggle"], "Pause");
    assert_eq!(playing["total"], "1:00");
    assert_eq!(playing["film"], false);
    let seek = "const seek = document.getElementById('seek');
        seek.value = given;
        for (const name of ['input', 'change']) seek.dispatchEvent(new Event(name));";
    browser.run(seek, json!(42));
    let sought = shown(&browser, "media.currentTime > 42.2");
    assert!(sought["at"].as_f64().unwrap() < 50.0, "{sought}");
    keep_picture(&browser, "page-playing.png");
    click("#toggle");
    assert_eq!(shown(&browser, "media.paused")["toggle"], "Play");
    // The next one follows where one ends.
    browser.run(seek, json!(59.5));
    click("#toggle");
    let next = shown(
        &browser,
        "text('title').startsWith('02') && media.currentTime > 0.2",
    );
    assert_eq!(next["current"], "02 Rising, without loss.flac");
    assert_eq!(next["trouble"], Value::Null);

    // The peer goes; what was not fetched yet cannot be played, and the page says why.
    sharing.kill();
    click("#list li:nth-child(5) button");
    // What it fetched to learn the length is still there.
    browser.run(seek, json!(50));
    let gone = shown(&browser, "visible('trouble')");
    assert_eq!(gone["trouble"], "The peer is gone.");
    assert_eq!(gone["rows"].as_array().unwrap().len(), 5);
    keep_picture(&browser, "page-gone.png");
    click("#retry");
    let still = shown(&browser, "!document.getElementById('retry').disabled");
    assert_eq!(still["trouble"], "The peer is gone.");
    // It comes back, and the media goes on where it was to.
    sharing = share(&scratch, &port).unwrap();
    click("#retry");
    let back = shown(&browser, "!visible('trouble') && media.currentTime > 50.3");
    assert_eq!(back["trouble"], Value::Null);
    assert_eq!(back["title"], "Ünïcødé — <b>&amp;.wav");
    assert!(back["at"].as_f64().unwrap() > 50.3, "{back}");
    // Films are shown.
    click("#list li:nth-child(1) button");
    let film = shown(&browser, "media.currentTime > 0.3 && media.videoWidth");
    assert_eq!(film["film"], true);
    assert_eq!(film["title"], "Test card.mp4");

    // On a phone, and in the dark.
    let metrics = json!({ "width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": true });
    browser.devtools("Emulation.setDeviceMetricsOverride", metrics);
    let dark = json!({ "features": [{ "name": "prefers-color-scheme", "value": "dark" }] });
    browser.devtools("Emulation.setEmulatedMedia", dark);
    click("#list li:nth-child(4) button");
    let phone = shown(&browser, "media.currentTime > 0.3 && !visible('media')");
    assert_eq!(phone["wide"], false, "{phone}");
    keep_picture(&browser, "page-phone.png");
    drop(sharing);
}

#[test]
fn open_says_at_once_what_cannot_be_opened() {
    let scratch = Scratch::new();
    scratch.write("music/a.mp3", b"no music");
    let Some(sharing) = share(&scratch, "0") else {
        return;
    };
    for (arguments, said) in [
        (vec![&*sharing.token, "nothing"], "cannot open"),
        (vec!["wrong"], "cannot list"),
        (vec!["wrong", "a.mp3"], "cannot open"),
    ] {
        let mut open = peer(["open", &sharing.address]).unwrap();
        let ran = run(open.args(&arguments));
        assert_eq!(ran.status.code(), Some(1), "{arguments:?}");
        assert!(ran.stderr.contains(said), "{}", ran.stderr);
        assert_eq!(ran.text(), "");
    }
    // A player gets the URL, and its end is that of the command. It is one program: the example itself
    // where no other has to run that.
    if !has(&[Capability::NotEmulated]) {
        return;
    }
    let player = peer::<&str>([]).unwrap();
    let player = player.get_program().to_str().unwrap().to_owned();
    let mut open = peer(["open", "--player", &player, &sharing.address]).unwrap();
    let ran = run(open.args([&*sharing.token, "a.mp3"]));
    assert_eq!(ran.status.code(), Some(1));
    assert!(
        ran.stderr.contains("no command \"http://127.0.0.1:"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("/a.mp3"), "{}", ran.stderr);
}
