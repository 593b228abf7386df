//! Replays every committed fuzz input through its law, on stable.

use std::{fs, path::Path};

use peer_tests::check::LAWS;

use crate::capability::{Capability, has};

fn fuzz_dir() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz"))
}

#[test]
fn every_corpus_obeys_its_law() {
    if !has(&[Capability::SourceTree]) {
        return;
    }
    for (name, law) in LAWS {
        let dir = fuzz_dir().join("corpus").join(name);
        let mut inputs = 0;
        for entry in fs::read_dir(&dir).unwrap_or_else(|error| panic!("{dir:?}: {error}")) {
            let path = entry.unwrap().path();
            let input = fs::read(&path).unwrap();
            let caught = std::panic::catch_unwind(|| law(&input));
            assert!(caught.is_ok(), "{} breaks the law `{name}`", path.display());
            inputs += 1;
        }
        assert!(inputs > 0, "{dir:?} is empty: the law is not replayed");
    }
}

#[test]
fn every_law_is_fuzzed() {
    if !has(&[Capability::SourceTree]) {
        return;
    }
    let names = |dir: &str| {
        let mut names: Vec<_> = fs::read_dir(fuzz_dir().join(dir))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    };
    let laws: Vec<_> = LAWS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names("targets"), laws);
    assert_eq!(names("corpus"), laws);
    let manifest = fs::read_to_string(fuzz_dir().join("Cargo.toml")).unwrap();
    for name in laws {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}
